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
from edgevit.checkpoints.shapes import describe_size, measure_vit
from edgevit.checkpoints.timm import timm
from edgevit.core.errors import CheckpointError, count_things
from edgevit.core.notes import note_names
from edgevit.models import ViTConfig
from edgevit.models.model import Model

LAYOUT = "DINO training checkpoint"

_BACKBONE = "backbone."
_SIZES = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base"}


def recognise(files: CheckpointFiles) -> bool:
    """A plain ViT's backbone under ``teacher`` or ``student``, with DINO's projection head or none."""
    names = files.bare_tensors.keys()
    if f"{_BACKBONE}cls_token" not in names or not {"teacher", "student"} & set(files.contents.containers):
        return False
    others = ("dino_head.", "ibot_head.", f"{_BACKBONE}mask_token", f"{_BACKBONE}masked_embed")  # DINOv2's and iBOT's
    return not any(name.startswith(others) for name in names)


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read a DINO checkpoint; see :func:`edgevit.checkpoints.read_checkpoint`."""
    stored, notes = files.take_tensors()
    tensors = {name.removeprefix(_BACKBONE): value for name, value in stored.items() if name.startswith(_BACKBONE)}
    beside = [name for name in stored if not name.startswith(_BACKBONE)]
    if beside:
        lead = f"dropped {count_things(len(beside), 'tensor')} beside the backbone (DINO's projection head): "
        notes.append(note_names(lead, beside, 4))
    names = timm.find_names(ViTConfig(), tensors)
    described = measure_vit(names.pick(tensors), files.source, classes=0)
    size = _SIZES.get((described.width, described.depth))
    name = f"vit_{size}, patch {described.patch_size[0]}" if size else describe_size(described)
    if arch is not None:
        raise CheckpointError(f"{files.source} is a DINO checkpoint, whose tensors say what it is", "leave --arch out")
    return assemble_documented(
        files,
        tensors,
        described,
        image_size,
        publisher="DINO",
        layout=LAYOUT,
        architecture=name,
        names=names,
        resampling="offset",
        notes=notes,
    )
