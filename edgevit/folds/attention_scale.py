"""Fold 1/√d into the query projection: one multiplication a block less, and none between quantiser and product."""

from __future__ import annotations

import torch
from torch import nn

from edgevit.models.layers import Attention
from edgevit.models.pixels import PixelModel
from edgevit.record import PassRecord


def fold_attention_scale(pixels: PixelModel) -> PassRecord:
    """Scale the rows of every query projection in place; exact where the scale is a power of two, else to rounding."""
    applied = []
    for name, attn in pixels.model.named_modules():
        if not isinstance(attn, Attention) or attn.scale == 1.0:
            continue
        linear = attn.qkv if attn.qkv is not None else attn.q
        assert linear is not None
        rows = attn.heads * attn.head_width
        with torch.no_grad():
            factor = torch.ones(linear.out_features, dtype=linear.weight.dtype)
            factor[:rows] = attn.scale
            # New tensors: the originals may be shared with the model that the parity check runs.
            linear.weight = nn.Parameter(linear.weight * factor[:, None], requires_grad=False)
            if linear.bias is not None:
                linear.bias = nn.Parameter(linear.bias * factor, requires_grad=False)
        attn.scale = 1.0
        applied.append(name)
    return PassRecord("attention_scale", "module", tuple(applied))
