"""Swin's and Swin V2's own files: ``{"model": …}``, as ``microsoft/Swin-Transformer`` publishes and saves them.

Written from its ``models/swin_transformer.py``, ``swin_transformer_v2.py``, ``config.py`` and ``data/build.py``. A
stage ends with the merging that leads to the next. The image size shows in the stored shift masks, Swin V2's windows,
its own and those of pre-training, in the stored offsets. Evaluation resizes to 8/7 of the image size and crops, except
for the files fine-tuned at 384 pixels, whose configurations resize to 384 × 384.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from edgevit.checkpoints.documented import assemble_documented
from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.shapes import describe_size, find_masked_size, measure_swin, measure_swin_v2
from edgevit.checkpoints.timm import timm
from edgevit.checkpoints.timm.eva import join_biases
from edgevit.core.errors import CheckpointError, format_offenders
from edgevit.models import SwinConfig, SwinV2Config
from edgevit.models.model import Model

LAYOUT = "Swin training checkpoint"

_SIZES: Mapping[tuple[int, tuple[int, ...]], str] = {
    (96, (2, 2, 6, 2)): "tiny",
    (96, (2, 2, 18, 2)): "small",
    (128, (2, 2, 18, 2)): "base",
    (192, (2, 2, 18, 2)): "large",
}


_MERGING = "layers.0.downsample.reduction.weight"
_V1 = {_MERGING, "layers.0.blocks.0.attn.relative_position_bias_table"}
_V2 = {_MERGING, "layers.0.blocks.0.attn.logit_scale", "layers.0.blocks.0.attn.cpb_mlp.0.weight"}
_OFFSETS = "layers.{}.blocks.0.attn.relative_coords_table"  # (1, 2·M − 1, 2·M − 1, 2)


def recognise(files: CheckpointFiles) -> bool:
    """A Swin or Swin V2 with timm's names whose first stage ends with a merging."""
    names = files.bare_tensors.keys()
    return names >= _V1 or names >= _V2


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read a Swin or Swin V2 file; see :func:`edgevit.checkpoints.read_checkpoint`."""
    tensors, notes = files.take_tensors()
    masked = find_masked_size(tensors)
    is_v2 = tensors.keys() >= _V2
    tensors = join_biases(tensors) if is_v2 else tensors
    names = timm.OLD_SWIN_V2_NAMES if is_v2 else timm.OLD_SWIN_NAMES
    found = names.pick(tensors)
    described = (
        _describe_v2(found, tensors, masked, files.source)
        if is_v2
        else measure_swin(found, files.source, image_size=masked, window_fit="smaller", pad="before_shift")
    )
    if masked is None:
        notes.append(f"the image size is not stored; {described.image_size[0]} is assumed, 32 times the window")
    squash = described.image_size[0] >= 384
    return assemble_documented(
        files,
        tensors,
        described,
        image_size,
        publisher="Swin",
        layout=LAYOUT,
        architecture=_name(described),
        names=names,
        crop=1.0 if squash else 0.875,
        resize="squash" if squash else "shortest",
        resampling="bicubic",
        notes=notes,
    )


def _describe_v2(
    found: Mapping[str, Tensor], tensors: Mapping[str, Tensor], masked: Size | None, source: str
) -> SwinV2Config:
    stages = 1 + max(int(name.split(".")[1]) for name in found if name.startswith("layers."))
    offsets = {_OFFSETS.format(i): tensors.get(_OFFSETS.format(i)) for i in range(stages)}
    windows = {name: _measure_windows(offset) for name, offset in offsets.items()}
    odd = [
        f"{name}: {'missing' if offsets[name] is None else 'no table of offsets within a square window'}"
        for name, sides in windows.items()
        if sides is None
    ]
    if odd:
        raise CheckpointError(
            f"{source} does not state the windows of a Swin V2:\n{format_offenders(odd)}",
            "add --arch NAME with timm's name, for example --arch swinv2_tiny_window8_256",
        )
    sides = [side for side in windows.values() if side is not None]
    return measure_swin_v2(
        found,
        source,
        max(window for window, _ in sides),
        pretrained_windows=tuple(trained for _, trained in sides),
        window_fit="smaller",
        pad="before_shift",
        **({"image_size": masked} if masked else {}),
    )


def _measure_windows(offsets: Tensor | None) -> tuple[int, int] | None:
    """Side of a stage's window and of the one in pre-training.

    The largest stored offset is ``log₂(1 + 8·(M − 1)/(P − 1)) / log₂ 8`` for a window of M and P in pre-training.
    """
    if offsets is None or offsets.ndim != 4 or offsets.shape[1] != offsets.shape[2] or offsets.shape[1] % 2 == 0:
        return None
    window = (offsets.shape[1] + 1) // 2
    largest = float(offsets.max())
    if window == 1:
        return 1, 0  # one token has no neighbour to be off from
    if not 0 < largest < 8:
        return None
    return window, round(1 + 8 * (window - 1) / (8**largest - 1))


def _name(config: SwinConfig) -> str:
    """As the publisher names its files."""
    window = str(config.window[0])
    if isinstance(config, SwinV2Config) and config.pretrained_windows[0] not in (0, config.window[0]):
        window = f"{config.pretrained_windows[0]}to{window}"
    size = _SIZES.get((config.width, config.depths))
    if size is None:
        return f"{describe_size(config)}, window {window}"
    kind = "swinv2" if isinstance(config, SwinV2Config) else "swin"
    return f"{kind}_{size}_patch{config.patch_size[0]}_window{window}_{config.image_size[0]}"
