"""torchvision: the state dict of a ``VisionTransformer`` or ``SwinTransformer``.

Written from torchvision 0.28 (``vision_transformer.py``, ``swin_transformer.py``). A state dict does not say which
weights it holds, so preprocessing is that of the first weights published for the architecture and image size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from edgevit.checkpoints.assemble import Plan, assemble_model
from edgevit.checkpoints.documented import document_preprocess
from edgevit.checkpoints.fields import Size
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.names import Names, Rows, nest
from edgevit.checkpoints.shapes import at_image_size, describe_size, measure_swin, measure_swin_v2, measure_vit
from edgevit.checkpoints.timm.timm import V2_BLOCK
from edgevit.core.errors import CheckpointError
from edgevit.models import ModelConfig, SwinConfig
from edgevit.models.model import Model
from edgevit.pixels.preprocess import Interpolation

LAYOUT = "torchvision state dict"

_BLOCK: Rows = {
    "norm1.*": "ln_1.*",
    "attn.qkv.weight": "self_attention.in_proj_weight",
    "attn.qkv.bias": "self_attention.in_proj_bias",
    "attn.proj.*": "self_attention.out_proj.*",
    "norm2.*": "ln_2.*",
    # torchvision 0.12 named the MLP's layers; later ones count them.
    "mlp.fc1.*": ("mlp.0.*", "mlp.linear_1.*"),
    "mlp.fc2.*": ("mlp.3.*", "mlp.linear_2.*"),
}
VIT_NAMES = Names(
    {
        "cls_token": ("class_token",),
        "pos_embed": ("encoder.pos_embedding",),
        "patch_embed.proj.*": ("conv_proj.*",),
        **nest("blocks.{i}.", ["encoder.layers.encoder_layer_{i}."], _BLOCK),
        "norm.*": ("encoder.ln.*",),
        "head.*": ("heads.head.*",),
    }
)
_STAGES = 8  # more than any Swin has; stages and mergings stand in turn in one list
_SWIN_BLOCK: Rows = {
    "norm1.*": "norm1.*",
    "attn.qkv.*": "attn.qkv.*",
    "attn.proj.*": "attn.proj.*",
    "bias.table": "attn.relative_position_bias_table",
    "norm2.*": "norm2.*",
    "mlp.fc1.*": "mlp.0.*",
    "mlp.fc2.*": "mlp.3.*",
}


def _name_blocks(rows: Rows) -> dict[str, tuple[str, ...]]:
    """A block's rows for every stage."""
    named: dict[str, tuple[str, ...]] = {}
    for stage in range(_STAGES):
        named |= nest(f"layers.{stage}.blocks.{{j}}.", [f"features.{2 * stage + 1}.{{j}}."], rows)
    return named


SWIN_NAMES = Names(
    {
        "patch_embed.proj.*": ("features.0.0.*",),
        "patch_norm.*": ("features.0.2.*",),
        **_name_blocks(_SWIN_BLOCK),
        **{
            f"layers.{stage}.downsample.{part}": (f"features.{2 * stage}.{part}",)
            for stage in range(1, _STAGES)
            for part in ("norm.*", "reduction.weight")
        },
        "norm.*": ("norm.*",),
        "head.*": ("head.*",),
    },
    dropped={r".*relative_position_index": "an index that follows from the window"},
)
SWIN_V2_NAMES = Names(
    {**SWIN_NAMES.table, **_name_blocks(V2_BLOCK)},
    dropped={**SWIN_NAMES.dropped, r".*relative_coords_table": "offsets that follow from the window"},
)
_COORDINATES = "features.1.0.attn.relative_coords_table"


@dataclass(frozen=True)
class _Transform:
    """What the documentation of one set of weights says."""

    weights: str
    crop: int
    resize: int
    interpolation: Interpolation = "bilinear"


# Width, depth and patch of every builder.
_VITS = {
    (768, 12, 16): "vit_b_16",
    (768, 12, 32): "vit_b_32",
    (1024, 24, 16): "vit_l_16",
    (1024, 24, 32): "vit_l_32",
    (1280, 32, 14): "vit_h_14",
}
# Width and depths.
_SWINS: Mapping[tuple[int, tuple[int, ...]], str] = {
    (96, (2, 2, 6, 2)): "t",
    (96, (2, 2, 18, 2)): "s",
    (128, (2, 2, 18, 2)): "b",
}
# The first of each is for sizes that have no weights of their own. The SWAG_LINEAR weights of vit_b_16 and vit_l_16
# have the image size of V1; their documentation resizes to 224, bicubic.
TRANSFORMS: Mapping[str, tuple[_Transform, ...]] = {
    "vit_b_16": (_Transform("IMAGENET1K_V1", 224, 256), _Transform("IMAGENET1K_SWAG_E2E_V1", 384, 384, "bicubic")),
    "vit_b_32": (_Transform("IMAGENET1K_V1", 224, 256),),
    "vit_l_16": (_Transform("IMAGENET1K_V1", 224, 242), _Transform("IMAGENET1K_SWAG_E2E_V1", 512, 512, "bicubic")),
    "vit_l_32": (_Transform("IMAGENET1K_V1", 224, 256),),
    "vit_h_14": (
        _Transform("IMAGENET1K_SWAG_E2E_V1", 518, 518, "bicubic"),
        _Transform("IMAGENET1K_SWAG_LINEAR_V1", 224, 224, "bicubic"),
    ),
    "swin_t": (_Transform("IMAGENET1K_V1", 224, 232, "bicubic"),),
    "swin_s": (_Transform("IMAGENET1K_V1", 224, 246, "bicubic"),),
    "swin_b": (_Transform("IMAGENET1K_V1", 224, 238, "bicubic"),),
    "swin_v2_t": (_Transform("IMAGENET1K_V1", 256, 260, "bicubic"),),
    "swin_v2_s": (_Transform("IMAGENET1K_V1", 256, 260, "bicubic"),),
    "swin_v2_b": (_Transform("IMAGENET1K_V1", 256, 272, "bicubic"),),
}
_UNSUPPORTED = {
    "heads.pre_logits.": "a hidden layer before the head (representation_size)",
    "conv_proj.conv_bn_relu_": "a convolutional stem",
}


def recognise(files: CheckpointFiles) -> bool:
    """Names that only torchvision gives."""
    names = files.bare_tensors.keys()
    is_vit = {"class_token", "encoder.pos_embedding"} <= names
    return is_vit or not names.isdisjoint(("features.1.0.attn.relative_position_bias_table", _COORDINATES))


def read(files: CheckpointFiles, arch: str | None, image_size: Size | None) -> Model:
    """Read a torchvision state dict; see :func:`edgevit.checkpoints.read_checkpoint`."""
    tensors, notes = files.take_tensors()
    _refuse_parts(tensors, files.source)
    is_swin = "class_token" not in tensors
    is_v2 = _COORDINATES in tensors
    names = VIT_NAMES if not is_swin else SWIN_V2_NAMES if is_v2 else SWIN_NAMES
    if is_v2:
        tensors = {name: _without_key_bias(name, value) for name, value in tensors.items()}
    found = names.pick(tensors)
    described, architecture, known = _describe(found, files.source, is_swin, tensors.get(_COORDINATES))
    if arch not in (None, architecture):
        raise CheckpointError(
            f"{files.source} holds torchvision's {architecture}, not {arch!r}",
            "leave --arch out: this state dict says itself what it is",
        )
    config, native = at_image_size(described, image_size), described.image_size
    transforms = TRANSFORMS[known]
    transform = next((t for t in transforms if (t.crop, t.crop) == native), transforms[0])
    preprocess, assumed = document_preprocess(
        f"torchvision {known} ({transform.weights})",
        (transform.crop, transform.crop),
        config.image_size,
        (transform.resize, transform.resize),
        interpolation=transform.interpolation,
    )
    if architecture != known and not is_swin:
        notes.append(f"{architecture} is none of torchvision's; {described.heads} heads are assumed")
    plan = Plan(
        layout=LAYOUT,
        architecture=architecture,
        config=config,
        names=names,
        preprocess=preprocess,
        stored_size=native,
        resampling="corners",
        may_lack_head=True,
        notes=(*notes, *assumed),
    )
    return assemble_model(files, plan, tensors)


def _refuse_parts(names: Iterable[str], source: str) -> None:
    parts = {what for name in names for begin, what in _UNSUPPORTED.items() if name.startswith(begin)}
    if parts:
        raise CheckpointError(
            f"{source} has {' and '.join(sorted(parts))}, which is not supported",
            "name a model without it; no part can be left out without changing the answers",
        )


def _without_key_bias(name: str, value: Tensor) -> Tensor:
    """Swin V2's keys have no bias: torchvision stores one and computes with zeros in its place."""
    if not name.endswith(".attn.qkv.bias") or value.ndim != 1 or value.shape[0] % 3:
        return value
    q, k, v = value.chunk(3)
    return torch.cat([q, torch.zeros_like(k), v])


def _describe(
    found: Mapping[str, Tensor], source: str, is_swin: bool, coordinates: Tensor | None
) -> tuple[ModelConfig, str, str]:
    """Config, name, and torchvision's nearest builder."""
    if is_swin:
        # No window shrinks; one that covers its grid is padded and not shifted.
        swin: SwinConfig
        if coordinates is None:
            swin = measure_swin(found, source, window_fit="padded", pad="before_shift")
        else:  # (1, 2·M − 1, 2·M − 1, 2)
            window = (coordinates.shape[1] + 1) // 2 if coordinates.ndim == 4 else 8
            swin = measure_swin_v2(found, source, window, window_fit="padded", pad="before_shift")
        kind = "swin" if coordinates is None else "swin_v2"
        size = _SWINS.get((swin.width, swin.depths))
        return swin, f"{kind}_{size}" if size else describe_size(swin), f"{kind}_{size or 't'}"
    vit = measure_vit(found, source)
    name = _VITS.get((vit.width, vit.depth, vit.patch_size[0]))
    return vit, name or describe_size(vit), name or "vit_b_16"
