"""transformers' DINOv3, from ``modeling_dinov3_vit.py``: its names, its fields, and biases that are not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edgevit.checkpoints.fields import Fields
from edgevit.checkpoints.names import Rows, nest
from edgevit.models.rotary import make_periods

_BLOCK: Rows = {
    "norm1.*": "norm1.*",
    "attn.q.*": "attention.q_proj.*",
    "attn.k.*": "attention.k_proj.*",
    "attn.v.*": "attention.v_proj.*",
    "attn.proj.*": "attention.o_proj.*",
    "ls1.gamma": "layer_scale1.lambda1",
    "norm2.*": "norm2.*",
    "mlp.gate.*": "mlp.gate_proj.*",
    "mlp.fc1.*": "mlp.up_proj.*",
    "mlp.fc2.*": "mlp.down_proj.*",
    "ls2.gamma": "layer_scale2.lambda1",
}
NAMES: Mapping[str, tuple[str, ...]] = {
    "cls_token": ("embeddings.cls_token",),
    "reg_token": ("embeddings.register_tokens",),
    "patch_embed.proj.*": ("embeddings.patch_embeddings.*",),
    **nest("blocks.{i}.", ["layer.{i}.", "model.layer.{i}."], _BLOCK),
    "norm.*": ("norm.*",),
}
FIELDS: Mapping[str, Any] = {"layer_scale": True, "position": "rotary", "position_prefix": False, "qkv_bias": True}
"""Of :class:`~edgevit.models.ViTConfig`; biases that a checkpoint has not are zeros."""


def describe(fields: Fields, width: int, heads: int) -> dict[str, Any]:
    """Fields that a configuration sets, beside those of every ViT."""
    return {
        "gated_mlp": fields.flag("use_gated_mlp", False),
        "register_tokens": fields.integer("num_register_tokens", 0, low=0),
        "rotary_periods": make_periods(fields.number("rope_theta", 100.0, high=1e6), width // heads),
    }


def fill_up(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, with zeros as the biases of Linears that have none, and without a table of no registers.

    Keys never have a bias where the configuration is the publisher's; other Linears may have none.
    """
    result = {name: value for name, value in tensors.items() if value.numel()}
    for name, weight in tensors.items():
        if name.endswith("_proj.weight"):
            result.setdefault(f"{name.removesuffix('weight')}bias", torch.zeros(weight.shape[:1]))
    return result
