"""DINOv3's own files, as ``facebookresearch/dinov3`` publishes its ViTs: a backbone's state dict.

Written from its ``models/vision_transformer.py``, ``layers/`` and ``hub/backbones.py``, and for the transform from its
README. Registers are called storage tokens. The periods of the rotary positions lie in the file, rounded to bfloat16,
and its module computes with them. So does this reader; timm's and transformers' folders have exact ones. The bias of
queries, keys and values is multiplied by a mask that is zero for keys. No tensor says for how many pixels the weights
are, and none depends on it: the README's 256 are taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from edgevit.checkpoints.assemble import Plan, assemble_model
from edgevit.checkpoints.documented import document_preprocess
from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.names import Names, Rows, nest
from edgevit.checkpoints.preprocess_configs import IMAGENET
from edgevit.checkpoints.shapes import at_image_size, describe_size, measure_vit
from edgevit.core.errors import CheckpointError
from edgevit.models.model import Model

LAYOUT = "DINOv3 checkpoint"

_NATIVE = (256, 256)
_SATELLITE = (0.430, 0.411, 0.296), (0.213, 0.156, 0.143)
_SIZES = {(384, 12): "vits", (768, 12): "vitb", (1024, 24): "vitl", (1280, 32): "vith", (4096, 40): "vit7b"}
_SAME = ("norm1.*", "attn.qkv.*", "attn.proj.*", "ls1.gamma", "norm2.*", "ls2.gamma")
_BLOCK: Rows = {
    **{part: part for part in _SAME},
    "mlp.gate.*": "mlp.w1.*",  # SwiGLU, in the plus models and the 7B
    "mlp.fc1.*": ("mlp.fc1.*", "mlp.w2.*"),
    "mlp.fc2.*": ("mlp.fc2.*", "mlp.w3.*"),
}
NAMES = Names(
    {
        **{name: (name,) for name in ("cls_token", "patch_embed.proj.*", "norm.*")},
        "reg_token": ("storage_tokens",),
        "head.*": ("linear_head.*",),
        **nest("blocks.{i}.", ["blocks.{i}."], _BLOCK),
    },
    ("backbone.",),
    {
        r"mask_token": "only for masked pre-training",
        r"local_cls_norm\..*": "a norm of small crops, only for training",
        r"(dino_head|ibot_head)\..*": "projection heads, only for training",
    },
)
_PERIODS = re.compile(r"(backbone\.)?rope_embed\.periods")
_MASK = ".bias_mask"


def recognise(files: CheckpointFiles) -> bool:
    """The periods of rotary positions under DINOv3's name."""
    return any(_PERIODS.fullmatch(name) for name in files.bare_tensors)


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read a DINOv3 file; see :func:`edgevit.checkpoints.read_checkpoint`."""
    stored, notes = files.take_tensors()
    if arch is not None:
        raise CheckpointError(f"{files.source} is DINOv3's, whose tensors say what it is", "leave --arch out")
    periods = next(value for name, value in stored.items() if _PERIODS.fullmatch(name))
    tensors = _mask_biases({name: value for name, value in stored.items() if not _PERIODS.fullmatch(name)})
    found = NAMES.pick(tensors)
    gated, registers = "blocks.0.mlp.gate.weight" in found, found.get("reg_token")
    width = found["cls_token"].shape[-1] if "cls_token" in found else 0
    described = measure_vit(
        found,
        files.source,
        image_size=_NATIVE,
        heads=max(1, width // (4 * max(1, periods.numel()))),  # a period for each quarter of a head's channels
        classes=1000 if "head.weight" in found else 0,
        pool="token_mean" if "head.weight" in found else "token",
        position="rotary",
        rotary_periods=tuple(periods.double().flatten().tolist()),
        position_prefix=False,
        layer_scale=True,
        gated_mlp=gated,
        activation="silu" if gated else "gelu",
        register_tokens=registers.shape[1] if registers is not None and registers.ndim == 3 else 0,
        norm_eps=1e-5,
    )
    config = at_image_size(described, image_size)
    size, plus = _SIZES.get((described.width, described.depth)), "plus" if gated else ""
    plus = "" if size == "vit7b" else plus
    name = f"dinov3_{size}{described.patch_size[0]}{plus}" if size else describe_size(described)
    satellite = "sat493m" in files.source
    preprocess, assumed = document_preprocess(
        f"DINOv3's {name} of {'satellite' if satellite else 'web'} images",
        _NATIVE,
        config.image_size,
        _NATIVE,
        resize="squash",
        interpolation="bilinear",
        normalization=_SATELLITE if satellite else IMAGENET,
    )
    plan = Plan(
        layout=LAYOUT,
        architecture=name,
        config=config,
        names=NAMES,
        preprocess=preprocess,
        stored_size=_NATIVE,
        may_lack_head=True,
        notes=(*notes, *assumed),
    )
    return assemble_model(files, plan, tensors)


def _mask_biases(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, with biases as the module adds them."""
    result = {name: value for name, value in tensors.items() if not name.endswith(_MASK)}
    for name, mask in tensors.items():
        bias = tensors.get(f"{name.removesuffix(_MASK)}.bias") if name.endswith(_MASK) else None
        if bias is not None and bias.shape == mask.shape:
            kept = mask.nan_to_num().bool()  # what is masked may be anything, also no number
            result[f"{name.removesuffix(_MASK)}.bias"] = torch.where(kept, bias * mask, 0.0)
    return result
