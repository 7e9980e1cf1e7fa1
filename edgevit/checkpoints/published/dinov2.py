"""DINOv2's own files, as ``facebookresearch/dinov2`` publishes and saves them.

A file is a backbone; a training checkpoint with a ``teacher``; or a hub classifier, a backbone with a linear head on
the class token beside the mean of the patches.

Written from its ``models/vision_transformer.py``, ``layers/``, ``hub/`` and ``data/transforms.py``. In training the
blocks lie in chunks, ``blocks.0.3`` for block 3. Weights are for 518 pixels; positions for other sizes are resampled as
the module does: without antialiasing and with its offset of 0.1, or, with registers, with antialiasing and without.
"""

from __future__ import annotations

import re

from edgevit.checkpoints.documented import assemble_documented
from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.names import Names, Rows, nest
from edgevit.checkpoints.shapes import describe_size, measure_vit
from edgevit.core.errors import CheckpointError
from edgevit.models.model import Model

LAYOUT = "DINOv2 checkpoint"

_SIZES = {(384, 12): "vits", (768, 12): "vitb", (1024, 24): "vitl", (1536, 40): "vitg"}
_SAME = ("norm1.*", "attn.qkv.*", "attn.proj.*", "ls1.gamma", "norm2.*", "ls2.gamma", "mlp.fc1.*")
_BLOCK: Rows = {
    **{part: part for part in _SAME},
    "mlp.gate_fc1.*": "mlp.w12.*",  # SwiGLU, in the giant
    "mlp.fc2.*": ("mlp.fc2.*", "mlp.w3.*"),
}
NAMES = Names(
    {
        **{name: (name,) for name in ("cls_token", "pos_embed", "patch_embed.proj.*", "norm.*")},
        "reg_token": ("register_tokens",),
        "head.*": ("linear_head.*",),
        **nest("blocks.{i}.", ["blocks.{i}.", "blocks.{j}.{i}."], _BLOCK),
    },
    ("backbone.",),
    {
        r"mask_token": "only for masked pre-training",
        r"(dino_head|ibot_head)\..*": "DINOv2's projection heads, only for training",
    },
)
_FIRST = re.compile(r"(backbone\.)?blocks\.0\.(0\.)?ls1\.gamma")


def recognise(files: CheckpointFiles) -> bool:
    """A ViT with layer scale and the mask token that DINOv2 leaves in its files; DINOv3's have both, and periods."""
    names = files.bare_tensors.keys()
    if any(".rope_embed." in f".{name}" for name in names):
        return False
    return any(_FIRST.fullmatch(n) for n in names) and bool({"mask_token", "backbone.mask_token"} & names)


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read a DINOv2 file; see :func:`edgevit.checkpoints.read_checkpoint`."""
    tensors, notes = files.take_tensors()
    if arch is not None:
        raise CheckpointError(f"{files.source} is DINOv2's, whose tensors say what it is", "leave --arch out")
    found = NAMES.pick(tensors)
    gated = "blocks.0.mlp.gate_fc1.weight" in found
    registers = found["reg_token"].shape[1] if "reg_token" in found and found["reg_token"].ndim == 3 else 0
    if gated:
        halves = found["blocks.0.mlp.gate_fc1.weight"].chunk(2)
        found["blocks.0.mlp.fc1.weight"] = halves[1]
    described = measure_vit(
        found,
        files.source,
        classes=1000 if "head.weight" in found else 0,
        pool="token_mean" if "head.weight" in found else "token",
        layer_scale=True,
        gated_mlp=gated,
        activation="silu" if gated else "gelu",
        register_tokens=registers,
    )
    size = _SIZES.get((described.width, described.depth))
    variant = f"_reg{registers}" if registers else ""
    if described.image_size == (518, 518) and image_size in (None, (518, 518)):
        notes.append("runs at the 518 pixels of its positions; DINOv2's own evaluation is at 224: --image-size 224")
    return assemble_documented(
        files,
        tensors,
        described,
        image_size,
        publisher="DINOv2",
        layout=LAYOUT,
        architecture=f"dinov2_{size}{described.patch_size[0]}{variant}" if size else describe_size(described),
        names=NAMES,
        resampling="antialiased" if registers else "offset",
        notes=notes,
    )
