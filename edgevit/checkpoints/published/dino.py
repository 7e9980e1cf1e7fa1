"""DINO's training checkpoints: ``{"student": …, "teacher": …}``, as ``facebookresearch/dino`` saves them.

Written from its ``main_dino.py``, ``vision_transformer.py`` and ``eval_linear.py``. The teacher is the average of the
student over training. A backbone has timm's names behind ``backbone.``; the projection head beside it is for training
alone. The published backbones alone (``dino_deitsmall16_pretrain.pth``) are bare weight files: ``--arch
vit_small_patch16_224.dino``.
"""

from __future__ import annotations

from edgevit.checkpoints.documented import assemble_documented
from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.shapes import at_image_size, describe_size, measure_vit
from edgevit.checkpoints.timm import timm
from edgevit.core.errors import CheckpointError
from edgevit.models import ViTConfig
from edgevit.models.model import Model

LAYOUT = "DINO training checkpoint"

_BACKBONE = "backbone."
_SIZES = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base"}


def recognise(files: CheckpointFiles) -> bool:
    """A plain ViT's backbone under ``teacher`` or ``student``, with DINO's projection head or none."""
    if files.config or not files.weights:
        return False
    contents = files.contents
    names = contents.tensors.keys()
    if not {"teacher", "student"} & set(contents.containers) or f"{_BACKBONE}cls_token" not in names:
        return False
    others = ("dino_head.", "ibot_head.", f"{_BACKBONE}mask_token", f"{_BACKBONE}masked_embed")  # DINOv2's and iBOT's
    return not any(name.startswith(others) for name in names)


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read a DINO checkpoint; see :func:`edgevit.checkpoints.read_checkpoint`."""
    stored, notes = files.take_tensors()
    tensors = {name.removeprefix(_BACKBONE): value for name, value in stored.items() if name.startswith(_BACKBONE)}
    notes.append(f"dropped {len(stored) - len(tensors)} tensors beside the backbone: DINO's projection head")
    names = timm.find_names(ViTConfig(), tensors)
    found = {ours: tensors[theirs] for theirs, ours in names.to_canonical(tensors).items()}
    described = measure_vit(found, files.source, classes=0)
    size = _SIZES.get((described.width, described.depth))
    name = f"vit_{size}, patch {described.patch_size[0]}" if size else describe_size(described)
    if arch is not None:
        raise CheckpointError(f"{files.source} is a DINO checkpoint, whose tensors say what it is", "leave --arch out")
    config, native = at_image_size(described, image_size), described.image_size
    resized = int(native[0] * 256 / 224), int(native[1] * 256 / 224)
    return assemble_documented(
        files,
        tensors,
        publisher="DINO",
        layout=LAYOUT,
        architecture=name,
        config=config,
        native=native,
        names=names,
        resized=resized,
        resampling="offset",
        may_lack_head=True,
        notes=notes,
    )
