"""Relative position bias + shift mask in one constant, so that window attention stays one rank-4 pattern."""

from __future__ import annotations

import torch

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.models.pixels import PixelModel
from edgevit.models.swin import ConstantBias, SwinBlock
from edgevit.models.swin_v2 import SwinV2Block


def fold_attention_bias(pixels: PixelModel) -> PassRecord:
    """Replace every block's bias table, index and mask by their sum, in place; exact."""
    applied = []
    for name, block in pixels.model.named_modules():
        if isinstance(block, (SwinBlock, SwinV2Block)) and not isinstance(block.bias, ConstantBias):
            with torch.no_grad():
                block.bias = ConstantBias(block.bias().detach().contiguous())
            applied.append(name)
    skipped = () if applied else (Skip("attn", "the model has no relative position bias"),)
    return PassRecord("attention_bias", "module", tuple(applied), skipped)
