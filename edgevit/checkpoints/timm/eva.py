"""timm's EVA, in which its EVA-02, DINOv3, Perception Encoder and other ViTs with rotary positions are written."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from edgevit.checkpoints.fields import Fields, is_number
from edgevit.checkpoints.rope import Rope
from edgevit.checkpoints.timm.vit import VIT_ARGS, describe_vit
from edgevit.models import ModelConfig, ViTConfig

# By the names that timm's ViT has for them.
_SAME_ARGS = {"num_reg_tokens": "reg_tokens", "use_pre_transformer_norm": "pre_norm"}
# The weights show them, or they count only in training.
_SHOWN = {
    "attn_type", "qkv_fused", "head_init_scale", "rope_shift_coords", "rope_jitter_coords", "rope_rescale_coords",
}  # fmt: skip
EVA_ARGS = VIT_ARGS | {
    "use_abs_pos_emb", "rope_type", "rope_temperature", "rope_rotate_half", "rope_grid_indexing", "rope_grid_offset",
    "ref_feat_shape", "swiglu_mlp", "swiglu_align_to", "scale_mlp", "scale_attn_inner", "use_fc_norm",
    "use_post_transformer_norm", "attn_pool_num_heads", "attn_pool_mlp_ratio",
}  # fmt: skip
EVA_FIXED: Mapping[str, tuple[Any, str]] = {
    "use_rot_pos_emb": (True, "no rotary positions"),
    "use_post_norm": (False, "norms behind attention and MLP"),
    "attn_only_layer_scale": (False, "layer scale behind attention only"),
}
"""Arguments that must have one value, and what another would be."""


def rename_eva_args(args: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of timm's EVA by the names that its ViT has for the same, without those that nobody need state."""
    return {_SAME_ARGS.get(key, key): value for key, value in args.items() if key not in _SHOWN}


def read_rope(base: Rope, fields: Fields, unsupported: list[str]) -> Rope:
    """An architecture's rotary positions with timm's arguments; what they cannot be is added to ``unsupported``."""
    kind = fields.text("rope_type", "dinov3" if base.centred else "cat")
    if kind not in ("dinov3", "cat"):
        unsupported.append(f"rotary positions of the type {kind!r} (model_args: rope_type)")
    indexing = fields.text("rope_grid_indexing", "xy" if base.columns_first else "ij")
    offset = fields.data.get("rope_grid_offset", base.offset)
    if not is_number(offset) or not -1e4 <= offset <= 1e4 or (kind == "dinov3" and offset):
        unsupported.append(f"rotary positions that are moved (model_args: rope_grid_offset = {offset!r})")
        offset = 0.0
    stated = "ref_feat_shape" in fields.data or base.reference is not None
    return Rope(
        centred=kind == "dinov3",
        temperature=fields.number("rope_temperature", base.temperature, high=1e6),
        half=fields.flag("rope_rotate_half", base.half),
        columns_first=indexing == "xy",
        offset=float(offset),
        reference=fields.size("ref_feat_shape", base.reference or (1, 1)) if stated else None,
    )


def describe_eva(
    base: ViTConfig, rope: Rope, fields: Fields, names: Collection[str], unsupported: list[str]
) -> dict[str, Any]:
    """Fields of :class:`~edgevit.models.ViTConfig`, as :func:`~edgevit.checkpoints.timm.vit.describe_vit` gives them.

    Args:
        base: The architecture's own.
        rope: The architecture's own.
        fields: timm's arguments, renamed.
        names: Of the tensors.
        unsupported: Parts that the canonical model has not.
    """
    values = describe_vit(base, fields, names, unsupported)
    width, heads, pool = values["width"], values["heads"], values["pool"]
    table = fields.flag("use_abs_pos_emb", base.position != "rotary")
    prefix = table and not fields.flag("no_embed_class", base.position != "rotary" and not base.position_prefix)
    gated = fields.flag("swiglu_mlp", base.gated_mlp or "blocks.0.mlp.fc1_g.weight" in names)
    mlp_width = _read_mlp_width(base, rope, fields, width, gated)
    if pool == "map" and gated:
        unsupported.append("an attention pool whose MLP is not that of the blocks")
    return {
        **values,
        **read_rope(rope, fields, unsupported).describe(width // heads),
        **_describe_norms(base, fields, names, pool),
        **(_describe_map(base, fields, width, mlp_width) if pool == "map" else {}),
        "position": "learned" if table else "rotary",
        "position_prefix": prefix,
        "position_registers": prefix and values["register_tokens"] > 0,
        "gated_mlp": gated,
        "activation": "silu" if gated else "gelu",
        "mlp_width": mlp_width,
        "mlp_norm": fields.flag("scale_mlp", base.mlp_norm or "blocks.0.mlp.norm.weight" in names),
        "attention_norm": fields.flag("scale_attn_inner", base.attention_norm or "blocks.0.attn.norm.weight" in names),
    }


def _describe_norms(base: ViTConfig, fields: Fields, names: Collection[str], pool: str) -> dict[str, bool]:
    """Where the last norm is: by the arguments, by the weights, or else behind the mean and before other pooling."""
    none = not (base.norm_before_pool or base.norm_after_pool)
    after, before = "fc_norm.weight" in names, "norm.weight" in names
    mean = pool == "mean" and not (base.pool == "mean" and base.norm_before_pool)
    moved = fields.flag("use_fc_norm", after if after != before else mean and not none)
    return {
        "norm_after_pool": moved,
        "norm_before_pool": fields.flag("use_post_transformer_norm", not moved and not none),
    }


def _describe_map(base: ViTConfig, fields: Fields, width: int, mlp_width: int) -> dict[str, Any]:
    """An attention pool, which reads the class token too."""
    ratio = fields.number("attn_pool_mlp_ratio", 4.0 if base.pool == "map" else 0.0)
    hidden = int(width * ratio)
    return {
        "pool_prefix": True,
        "pool_heads": fields.integer("attn_pool_num_heads", base.pool_heads, low=0),
        "pool_mlp_width": 0 if hidden == mlp_width else hidden,
    }


def _read_mlp_width(base: ViTConfig, rope: Rope, fields: Fields, width: int, gated: bool) -> int:
    """Hidden channels; timm's ratio is that of one half of a gated MLP, filled up to a multiple where one is stated."""
    align = fields.integer("swiglu_align_to", 8 if rope.centred and base.gated_mlp else 0, low=0)
    ratio = fields.number("mlp_ratio", 0.0)
    same = not ratio and width == base.width
    hidden = base.mlp_width if same else int(width * (ratio or base.mlp_width / base.width))
    return hidden + (-hidden % align if gated and align else 0)


def join_biases(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with a bias for keys where queries and values have one: EVA and Swin V2 have none, so it is zero."""
    joined = dict(tensors)
    for name, value in tensors.items():
        stem = name.removesuffix("q_bias")
        if name.endswith(".attn.q_bias") and f"{stem}v_bias" in joined and f"{stem}qkv.bias" not in joined:
            joined[f"{stem}qkv.bias"] = torch.cat(
                [joined.pop(name), torch.zeros_like(value), joined.pop(f"{stem}v_bias")]
            )
        elif name.endswith(".attn.q_proj.bias"):
            joined.setdefault(name.replace(".q_proj.", ".k_proj."), torch.zeros_like(value))
    return joined


def order_channels(
    rope: Rope | None, args: Mapping[str, Any], config: ModelConfig, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors with the channels of queries and keys in canonical order.

    Args:
        rope: The architecture's own; ``None`` where positions are not rotary.
        args: timm's arguments, which were found to be valid.
        config: What they describe.
        tensors: By timm's names.
    """
    if rope is None or not isinstance(config, ViTConfig):
        return dict(tensors)
    width, rope = config.width // config.heads, read_rope(rope, Fields(args, ""), [])
    channels = rope.list_channels(width)
    if channels == sorted(channels):
        return dict(tensors)
    rows = torch.tensor([head * width + channel for head in range(config.heads) for channel in channels])
    both = torch.cat([rows, rows + config.width, torch.arange(2 * config.width, 3 * config.width)])
    result = dict(tensors)
    for name, value in tensors.items():
        part = name.rpartition(".attn.")[2].rpartition(".")[0]
        order = both if part == "qkv" else rows if part in ("q_proj", "k_proj") else None
        if order is not None and value.ndim and len(value) == len(order):  # another length is reported as such later
            result[name] = value[order]
    return result
