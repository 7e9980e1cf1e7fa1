"""Give q, k and v a Linear each, so that an engine writes each in the layout that its product reads."""

from __future__ import annotations

from torch import nn

from edgevit.core.pass_record import PassRecord
from edgevit.models.layers import Attention
from edgevit.models.pixels import PixelModel


def fold_split_qkv(pixels: PixelModel) -> PassRecord:
    """Split every packed projection in place; exact."""
    applied = []
    for name, attn in pixels.model.named_modules():
        if isinstance(attn, Attention) and attn.qkv is not None:
            parts = [_rows(attn.qkv, i) for i in range(3)]
            attn.q, attn.k, attn.v = parts
            attn.qkv = None
            applied.append(name)
    return PassRecord("split_qkv", "module", tuple(applied))


def _rows(packed: nn.Linear, part: int) -> nn.Linear:
    rows = packed.out_features // 3
    linear = nn.Linear(packed.in_features, rows, bias=packed.bias is not None, device="meta")
    at = slice(part * rows, (part + 1) * rows)
    # Views of the packed weight: nothing is copied.
    linear.weight = nn.Parameter(packed.weight.detach()[at], requires_grad=False)
    if packed.bias is not None:
        linear.bias = nn.Parameter(packed.bias.detach()[at], requires_grad=False)
    return linear
