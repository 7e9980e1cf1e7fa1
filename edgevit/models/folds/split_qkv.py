"""Give q, k and v a Linear each, so that an engine writes each in the layout that its product reads."""

from __future__ import annotations

from edgevit.core.pass_record import PassRecord
from edgevit.models.folds.weights import make_linear
from edgevit.models.layers import Attention
from edgevit.models.pixels import PixelModel


def fold_split_qkv(pixels: PixelModel) -> PassRecord:
    """Split every packed projection in place; exact."""
    applied = []
    for name, attn in pixels.model.named_modules():
        if isinstance(attn, Attention) and attn.qkv is not None:
            weights, bias = attn.qkv.weight.chunk(3), attn.qkv.bias  # views: nothing is copied
            biases = (None, None, None) if bias is None else bias.chunk(3)
            attn.q, attn.k, attn.v = map(make_linear, weights, biases)
            attn.qkv = None
            applied.append(name)
    return PassRecord("split_qkv", "module", tuple(applied))
