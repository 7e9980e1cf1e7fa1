"""DeiT's own files: ``{"model": …}`` with timm's names, as ``facebookresearch/deit`` publishes and saves them.

Written from its ``main.py``, ``models.py`` and ``datasets.py``. Sizes follow from the tensors; evaluation resizes to
the image size over 0.875.
"""

from __future__ import annotations

from edgevit.checkpoints import bare, timm
from edgevit.checkpoints.documented import assemble_documented
from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files import CheckpointFiles
from edgevit.checkpoints.shapes import at_image_size, measure_vit
from edgevit.model import Model
from edgevit.models import ViTConfig

LAYOUT = "DeiT training checkpoint"

_CROP_RATIO = 0.875
_SIZES = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base"}
_PARTS = {"cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight", "head.weight"}


def recognise(files: CheckpointFiles) -> bool:
    """A plain ViT's classifier under ``model`` or ``model_ema``, in one of DeiT's sizes and patch 16."""
    if files.config or not files.weights:
        return False
    contents = files.contents
    tensors = contents.tensors
    if contents.containers not in (("model",), ("model_ema",)) or not tensors.keys() >= _PARTS:
        return False
    if "global_pool" in contents.stated or any(name.startswith("fc_norm.") for name in tensors):  # MAE's
        return False
    depth = sum(1 for name in tensors if name.endswith(".norm1.weight"))
    return (tensors["norm.weight"].numel(), depth) in _SIZES and tuple(
        tensors["patch_embed.proj.weight"].shape[2:]
    ) == (16, 16)


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read a DeiT file; see :func:`edgevit.checkpoints.read_checkpoint`.

    With ``arch`` it is a bare weight file, for which timm's documentation counts.
    """
    if arch is not None:
        return bare.read(files, arch, image_size)
    tensors, notes = files.take_tensors()
    names = timm.find_names(ViTConfig(), tensors)
    found = {ours: tensors[theirs] for theirs, ours in names.to_canonical(tensors).items()}
    distilled = "dist_token" in found
    described = measure_vit(
        found,
        files.source,
        prefix_tokens=1 + distilled,
        distillation_token=distilled,
        distillation_head="head_dist.weight" in found,
    )
    config = at_image_size(described, image_size)
    native = described.image_size
    size = _SIZES[config.width, config.depth]
    name = f"deit_{size}_{'distilled_' if distilled else ''}patch16_{native[0]}"
    resized = int(native[0] / _CROP_RATIO), int(native[1] / _CROP_RATIO)
    notes.append("the file does not say whose it is; --arch NAME with timm's name takes timm's preprocessing instead")
    return assemble_documented(
        files,
        tensors,
        publisher="DeiT",
        layout=LAYOUT,
        architecture=name,
        config=config,
        native=native,
        names=names,
        resized=resized,
        notes=notes,
    )
