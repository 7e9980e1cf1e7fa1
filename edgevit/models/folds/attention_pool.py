"""Multiply an attention pool's query into its key projection.

The query is learned, the same for every image: ``q·(W·x + b) = (Wᵀ·q)·x + q·b``, and softmax does not see the constant
``q·b``. Every head's scores are then one row of a Linear from C to A channels, in the place of a Linear from C to C and
a product.
"""

from __future__ import annotations

import torch

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.models.attention_pool import AttentionPool
from edgevit.models.folds.weights import make_linear
from edgevit.models.pixels import PixelModel


def fold_attention_pool(pixels: PixelModel) -> PassRecord:
    """Replace query, latent and key projection by one Linear, in place; exact to rounding."""
    applied = []
    for name, pool in pixels.model.named_modules():
        if not isinstance(pool, AttentionPool) or pool.k is None:
            continue
        with torch.no_grad():
            query = pool.query().double()[0, :, 0]  # (A, D)
            keys = pool.k.weight.detach().double().reshape(pool.heads, -1, pool.k.in_features)  # (A, D, C)
            weight = torch.einsum("ad,adc->ac", query, keys)
        pool.score = make_linear(weight)
        pool.latent = pool.q = pool.k = None
        applied.append(name)
    skipped = () if applied else (Skip("head", "the model does not pool by attention"),)
    return PassRecord("attention_pool", "module", tuple(applied), skipped)
