"""timm's ``model_args`` of a Vision Transformer as fields of the canonical config."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from typing import Any

from torch import Tensor

from edgevit.checkpoints.fields import Fields, is_number
from edgevit.checkpoints.names import Names
from edgevit.models import ModelConfig, ViTConfig

_SAME = (
    *("cls_token", "dist_token", "reg_token", "pos_embed", "patch_embed.proj.*", "norm_pre.*", "norm.*", "fc_norm.*"),
    *("head.*", "head_dist.*", "attn_pool.latent", "projection.*"),
    *(f"attn_pool.{part}.*" for part in ("q", "kv", "proj", "norm", "mlp.fc1", "mlp.fc2")),
    *(f"blocks.{{i}}.{part}.*" for part in ("norm1", "attn.qkv", "attn.q_norm", "attn.k_norm", "attn.proj", "norm2")),
    *(f"blocks.{{i}}.{part}.*" for part in ("attn.norm", "mlp.norm", "mlp.fc2")),
)
_PLAIN_MLP = {"blocks.{i}.mlp.fc1.*": ("blocks.{i}.mlp.fc1.*",)}
# fc1 is both halves (SwiGLUPacked), or each has its Linear (SwiGLU).
_GATED_MLP = {
    "blocks.{i}.mlp.gate_fc1.*": ("blocks.{i}.mlp.fc1.*",),
    "blocks.{i}.mlp.gate.*": ("blocks.{i}.mlp.fc1_g.*",),
    "blocks.{i}.mlp.fc1.*": ("blocks.{i}.mlp.fc1_x.*",),
}
_LAYER_SCALE = {f"blocks.{{i}}.ls{k}.gamma": (f"blocks.{{i}}.ls{k}.gamma", f"blocks.{{i}}.gamma_{k}") for k in (1, 2)}
NOT_USED = {
    r".*relative_position_index": "an index that follows from the window",
    r".*attn_mask": "a mask that follows from the window",
    r"mask_token": "only for masked pre-training",
}
_APART = {f"blocks.{{i}}.attn.{part}.*": (f"blocks.{{i}}.attn.{part}_proj.*",) for part in "qkv"}
_EVERY = {**{name: (name,) for name in _SAME}, **_APART, **_LAYER_SCALE}
VIT_NAMES = Names({**_EVERY, **_PLAIN_MLP}, dropped=NOT_USED)
GATED_VIT_NAMES = Names({**_EVERY, **_GATED_MLP}, dropped=NOT_USED)

VIT_ARGS = {
    "img_size", "patch_size", "global_pool", "embed_dim", "depth", "num_heads", "mlp_ratio", "qkv_bias", "class_token",
    "no_embed_class", "fc_norm", "final_norm", "act_layer", "norm_layer", "reg_tokens", "init_values", "qk_norm",
    "pre_norm", "mlp_layer",
}  # fmt: skip

_ACTIVATIONS = {
    "gelu": "gelu", "gelu_tanh": "gelu_tanh", "quick_gelu": "quick_gelu", "quickgelu": "quick_gelu", "silu": "silu",
    "swish": "silu", "relu": "relu",
}  # fmt: skip
_POOLS = {"token": "token", "avg": "mean", "map": "map"}
_GATED_LAYERS = ("swiglu", "swiglupacked")


def describe_vit(base: ViTConfig, fields: Fields, names: Collection[str], unsupported: list[str]) -> dict[str, Any]:
    """Fields of :class:`~edgevit.models.ViTConfig`; what they cannot state is added to ``unsupported``.

    Args:
        base: The architecture's own.
        fields: timm's arguments, and what stands in their place where they are silent.
        names: Of the tensors, which show what nobody states.
        unsupported: Parts that the canonical model has not.
    """
    class_token = fields.flag("class_token", base.class_token)
    activation = fields.text("act_layer", base.activation)
    if activation not in _ACTIVATIONS:
        unsupported.append(f"activation {activation!r}")
    gated = _find_gate(base, fields, names, unsupported)
    width = fields.integer("embed_dim", base.width)
    registers = fields.integer("reg_tokens", base.register_tokens, low=0)
    prefix = not fields.flag("no_embed_class", not base.position_prefix)
    before = fields.flag("pre_norm", base.norm_before_blocks or "norm_pre.weight" in names)
    return {
        "width": width,
        "depth": fields.integer("depth", base.depth, high=512),
        "heads": fields.integer("num_heads", base.heads),
        "mlp_width": _read_mlp_width(base, fields, width, names, gated),
        "qkv_bias": fields.flag("qkv_bias", base.qkv_bias),
        "class_token": class_token,
        "distillation_token": base.distillation_token,
        "distillation_head": base.distillation_head,
        "position_prefix": prefix,
        "register_tokens": registers,
        "position_registers": prefix and registers > 0,
        "activation": _ACTIVATIONS.get(activation, "gelu"),
        "gated_mlp": gated,
        "norm_before_blocks": before,
        "patch_bias": not before,
        "norm_eps": 1e-6 if fields.data.get("norm_layer") == "layernorm" else base.norm_eps,
        "layer_scale": _has_layer_scale(base, fields, names),
        "qk_norm": fields.flag("qk_norm", base.qk_norm or "blocks.0.attn.q_norm.weight" in names),
        "drop_remainder": base.drop_remainder,
        **_describe_pool(base, fields, names, class_token, unsupported),
    }


def _describe_pool(
    base: ViTConfig, fields: Fields, names: Collection[str], class_token: bool, unsupported: list[str]
) -> dict[str, Any]:
    # Where nothing states the pooling, the place of the last norm shows it.
    after, before = "fc_norm.weight" in names, "norm.weight" in names
    if base.pool == "token" and class_token:
        default = "avg" if after else "token"
    else:
        default = "map" if base.pool == "map" else "avg"
    pool = fields.text("global_pool", default)
    if pool not in _POOLS:
        unsupported.append(f"pooling {pool!r}")
    # timm moves the norm behind pooling by itself only for the mean; a base without it says otherwise.
    kept = base.pool == "mean" and base.norm_before_pool
    moved = fields.flag("fc_norm", after if after != before else pool == "avg" and not kept)
    final = fields.flag("final_norm", base.norm_before_pool or base.norm_after_pool)
    return {
        "pool": _POOLS.get(pool, "mean"),
        "norm_before_pool": final and not moved,
        "norm_after_pool": final and moved,
    }


def _has_layer_scale(base: ViTConfig, fields: Fields, names: Collection[str]) -> bool:
    if "init_values" in fields.data:
        value = fields.data["init_values"]
        if not is_number(value):
            fields.complaints.append(f"init_values = {value!r} is not a number")
            return base.layer_scale
        return bool(value != 0)
    return base.layer_scale or any(re.fullmatch(r"blocks\.0\.(ls1\.gamma|gamma_1)", name) for name in names)


def _find_gate(base: ViTConfig, fields: Fields, names: Collection[str], unsupported: list[str]) -> bool:
    layer = fields.text("mlp_layer", "")
    if layer and layer.lower() not in (*_GATED_LAYERS, "mlp"):
        unsupported.append(f"MLP {layer!r}")
    if layer:
        return layer.lower() in _GATED_LAYERS
    return base.gated_mlp or "blocks.0.mlp.fc1_g.weight" in names


def _read_mlp_width(base: ViTConfig, fields: Fields, width: int, names: Collection[str], gated: bool) -> int:
    """Hidden channels; timm's ratio counts both halves of a packed gated MLP."""
    ratio = fields.number("mlp_ratio", 0.0)
    if not ratio:
        return base.mlp_width if width == base.width else int(width * (base.mlp_width / base.width))
    packed = gated and "blocks.0.mlp.fc1_g.weight" not in names
    return int(width * ratio) // (2 if packed else 1)


def find_vit_names(config: ViTConfig) -> Names:
    """The table for a config; the same name stands for other Linears in a gated MLP."""
    return GATED_VIT_NAMES if config.gated_mlp else VIT_NAMES


def find_projection(
    config: ModelConfig, tensors: dict[str, Tensor], name: str, tag: str, labels: object
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """A CLIP's projection, which timm keeps as a classifier, under its own name.

    Where it has no bias, as in CLIP and the Perception Encoder, timm's is zero; EVA's CLIPs have one.

    Args:
        config: Of the checkpoint.
        tensors: By timm's names.
        name: Of the architecture.
        tag: Of the pretrained weights; that of a fine-tuned classifier has ``_ft_``.
        labels: Class names, if there are any.

    Returns:
        Both as they were where the head is a classifier.
    """
    weight, bias = tensors.get("head.weight"), tensors.get("head.bias")
    biased = re.match(r"eva\w*_clip_", name) is not None
    if not isinstance(config, ViTConfig) or not (config.norm_before_blocks or biased):
        return config, tensors
    if config.pool not in ("token", "map") or labels or "_ft_" in tag:
        return config, tensors
    if weight is None or bias is None or weight.ndim != 2 or (bool(bias.any()) and not biased):
        return config, tensors
    renamed = {name: value for name, value in tensors.items() if name not in ("head.weight", "head.bias")}
    renamed |= {"projection.weight": weight, **({"projection.bias": bias} if biased else {})}
    width = int(weight.shape[0])
    return dataclasses.replace(config, projection=width, projection_bias=biased, classes=0), renamed
