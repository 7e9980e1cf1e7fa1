"""DINOv2's own files, as ``facebookresearch/dinov2`` publishes and saves them.

A file is a backbone; a training checkpoint with a ``teacher``; or a hub classifier, a backbone with a linear head on
the class token beside the mean of the patches.

Written from its ``models/vision_transformer.py``, ``layers/``, ``hub/`` and ``data/transforms.py``. In training the
blocks lie in chunks, ``blocks.0.3`` for block 3. Weights are for 518 pixels; positions for other sizes are resampled as
the module does: without antialiasing and with its offset of 0.1, or, with registers, with antialiasing and without.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgevit.checkpoints.assemble import Plan, assemble_model
from edgevit.checkpoints.documented import document_preprocess
from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.names import Names
from edgevit.checkpoints.shapes import at_image_size, describe_size, measure_vit
from edgevit.core.errors import CheckpointError
from edgevit.models.model import Model

LAYOUT = "DINOv2 checkpoint"

_SIZES = {(384, 12): "vits", (768, 12): "vitb", (1024, 24): "vitl", (1536, 40): "vitg"}
_BLOCK: Mapping[str, tuple[str, ...]] = {
    **{part: (part,) for part in ("norm1.*", "attn.qkv.*", "attn.proj.*", "ls1.gamma", "norm2.*", "ls2.gamma")},
    "mlp.fc1.*": ("mlp.fc1.*",),
    "mlp.gate_fc1.*": ("mlp.w12.*",),  # SwiGLU, in the giant
    "mlp.fc2.*": ("mlp.fc2.*", "mlp.w3.*"),
}
NAMES = Names(
    {
        **{name: (name,) for name in ("cls_token", "pos_embed", "patch_embed.proj.*", "norm.*")},
        "reg_token": ("register_tokens",),
        "head.*": ("linear_head.*",),
        **{
            f"blocks.{{i}}.{ours}": tuple(f"blocks.{at}.{theirs}" for theirs in several for at in ("{i}", "{j}.{i}"))
            for ours, several in _BLOCK.items()
        },
    },
    ("backbone.",),
    {
        r"mask_token": "for masked pre-training alone",
        r"(dino_head|ibot_head)\..*": "DINOv2's projection heads, for training alone",
    },
)
_FIRST = re.compile(r"(backbone\.)?blocks\.0\.(0\.)?ls1\.gamma")


def recognise(files: CheckpointFiles) -> bool:
    """A ViT with layer scale and the mask token that DINOv2 leaves in its files."""
    if files.config or not files.weights:
        return False
    names = files.contents.tensors.keys()
    return any(_FIRST.fullmatch(n) for n in names) and bool({"mask_token", "backbone.mask_token"} & names)


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read a DINOv2 file; see :func:`edgevit.checkpoints.read_checkpoint`."""
    tensors, notes = files.take_tensors()
    if arch is not None:
        raise CheckpointError(f"{files.source} is DINOv2's, whose tensors say what it is", "leave --arch out")
    canonical = NAMES.to_canonical(tensors)
    found = {ours: tensors[theirs] for theirs, ours in canonical.items()}
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
    config, native = at_image_size(described, image_size), described.image_size
    size = _SIZES.get((config.width, config.depth))
    variant = f"_reg{registers}" if registers else ""
    name = f"dinov2_{size}{config.patch_size[0]}{variant}" if size else describe_size(config)
    resized = int(native[0] * 256 / 224), int(native[1] * 256 / 224)
    preprocess, assumed = document_preprocess(f"DINOv2's {name}", native, config.image_size, resized)
    if config.image_size == native == (518, 518):
        notes.append("runs at the 518 pixels of its positions; DINOv2's own evaluation is at 224: --image-size 224")
    plan = Plan(
        layout=LAYOUT,
        architecture=name,
        config=config,
        names=NAMES,
        preprocess=preprocess,
        stored_size=native,
        resampling="antialiased" if registers else "offset",
        may_lack_head=True,
        notes=(*notes, *assumed),
    )
    return assemble_model(files, plan, tensors)
