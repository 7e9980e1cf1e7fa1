"""Fold 1/√d into the query projection: one multiplication a block less, and none between quantiser and product.

Where queries are normalised behind their projection, the norm's affine part takes it.
"""

from __future__ import annotations

import torch
from torch import nn

from edgevit.core.pass_record import PassRecord
from edgevit.models.folds.weights import scale_outputs
from edgevit.models.layers import Attention
from edgevit.models.pixels import PixelModel
from edgevit.models.swin_v2 import HeadCosine


def fold_attention_scale(pixels: PixelModel) -> PassRecord:
    """Scale every query projection or norm in place; exact where the scale is a power of two, else to rounding."""
    applied = []
    for name, attn in pixels.model.named_modules():
        if isinstance(attn, HeadCosine) and attn.logit_scale is not None:
            with torch.no_grad():
                attn.factor = attn.compute_factor()
            attn.logit_scale = None
            applied.append(name)
        if not isinstance(attn, Attention) or attn.scale == 1.0:
            continue
        if isinstance(attn.q_norm, nn.LayerNorm):
            scale_outputs(attn.q_norm, torch.tensor(attn.scale))
        else:
            linear = attn.qkv if attn.qkv is not None else attn.q
            assert linear is not None
            factor = torch.ones(linear.out_features, dtype=linear.weight.dtype)
            factor[: attn.heads * attn.head_width] = attn.scale
            scale_outputs(linear, factor)
        attn.scale = 1.0
        applied.append(name)
    return PassRecord("attention_scale", "module", tuple(applied))
