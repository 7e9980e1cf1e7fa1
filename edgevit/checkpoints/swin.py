"""Swin's own files: ``{"model": …}``, as ``microsoft/Swin-Transformer`` publishes and saves them.

Written from its ``models/swin_transformer.py``, ``config.py`` and ``data/build.py``. A stage ends with the merging that
leads to the next. The image size shows in the stored shift masks. Evaluation resizes to 8/7 of the image size and
crops, except for the files fine-tuned at 384 pixels, whose configurations resize to 384 × 384.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgevit.checkpoints import bare, timm
from edgevit.checkpoints.documented import assemble_documented
from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files import CheckpointFiles
from edgevit.checkpoints.shapes import at_image_size, find_masked_size, measure_swin
from edgevit.checkpoints.tensors import read_tensors
from edgevit.model import Model

LAYOUT = "Swin training checkpoint"

_SIZES: Mapping[tuple[int, tuple[int, ...]], str] = {
    (96, (2, 2, 6, 2)): "tiny",
    (96, (2, 2, 18, 2)): "small",
    (128, (2, 2, 18, 2)): "base",
    (192, (2, 2, 18, 2)): "large",
}


def recognise(files: CheckpointFiles) -> bool:
    """A Swin with timm's names whose first stage ends with a merging."""
    if files.config or not files.weights:
        return False
    parts = {"layers.0.downsample.reduction.weight", "layers.0.blocks.0.attn.relative_position_bias_table"}
    return files.contents.tensors.keys() >= parts


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read a Swin file; see :func:`edgevit.checkpoints.read_checkpoint`.

    With ``arch`` it is a bare weight file, for which timm's documentation counts.
    """
    if arch is not None:
        return bare.read(files, arch, image_size)
    tensors, notes = read_tensors(files)
    names = timm.OLD_SWIN_NAMES
    found = {ours: tensors[theirs] for theirs, ours in names.to_canonical(tensors).items()}
    described = measure_swin(found, files.source, image_size=find_masked_size(tensors))
    if find_masked_size(tensors) is None:
        notes.append(f"the image size is not stored; {described.image_size[0]} is assumed, 32 times the window")
    native = described.image_size
    config = at_image_size(described, image_size)
    depths = "-".join(map(str, config.depths))
    size = _SIZES.get((config.width, config.depths), f"of width {config.width}, depths {depths},")
    name = f"swin_{size}_patch{config.patch_size[0]}_window{config.window[0]}_{native[0]}"
    squash = native[0] >= 384
    resized = native if squash else (int(native[0] * 256 / 224), int(native[1] * 256 / 224))
    return assemble_documented(
        files,
        tensors,
        publisher="Swin",
        layout=LAYOUT,
        architecture=name,
        config=config,
        native=native,
        names=names,
        resized=resized,
        resize="squash" if squash else "shortest",
        notes=notes,
    )
