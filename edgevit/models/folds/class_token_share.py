"""Attention to the class token, divided among it and the copies that pad the tokens.

In the second half of a ViT most queries look at the class token most: in DeiT-Tiny's blocks 5 to 11 it is the largest
probability of three rows in four. The grid of quantised probabilities is as wide as the largest, so that one token
makes the step coarse for all others. The copies of :mod:`edgevit.models.folds.token_padding` have its key and value:
where a constant of −log R stands in the scores of all R of them, each gets the R-th part of the probability, their
values add up to what they were, and the largest is an R-th.

With DeiT-Tiny and 64 calibration images each INT8 product of probabilities and values wins 4 to 6 dB at the logits in
blocks 5 to 11 with a single copy, 0 to 2 in the first ones, and all of them together 4 dB (26.6 to 30.5).
"""

from __future__ import annotations

import math

import torch

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.models.pixels import PixelModel
from edgevit.models.vit import EncoderBlock, ViT


def fold_class_token_share(pixels: PixelModel) -> PassRecord:
    """State shares where the constant of padding hides the copies, in place; exact."""
    name, site, model = "class_token_share", "patch_embed", pixels.model
    if not isinstance(model, ViT) or model.suffix is None:
        return PassRecord(name, "module", skipped=(Skip(site, "the class token has no copies"),))
    copies, first = model.suffix.shape[1], model.blocks[0]
    assert isinstance(first, EncoderBlock)
    hidden = first.attn.mask
    assert hidden is not None
    places = torch.tensor([0, *range(hidden.shape[-1] - copies, hidden.shape[-1])])
    shares = torch.zeros_like(hidden).index_fill_(-1, places, -math.log(1 + copies))
    for block in model.blocks:
        assert isinstance(block, EncoderBlock)
        block.attn.mask = shares
    return PassRecord(name, "module", (site,))
