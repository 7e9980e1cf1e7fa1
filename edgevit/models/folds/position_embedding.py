"""Class token and registers with their positions in one constant; the patches' positions with the bias in another.

The bias is the convolution's. A norm before the blocks, which sees each token for itself, is computed for the first
constant here.
"""

from __future__ import annotations

import torch
from torch import nn

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.models.pixels import PixelModel
from edgevit.models.vit import ViT


def fold_position_embedding(pixels: PixelModel) -> PassRecord:
    """Replace the tokens' and positions' parameters by two constants, in place; exact to rounding."""
    name, model = "position_embedding", pixels.model
    if not isinstance(model, ViT):
        return PassRecord(name, "module", skipped=(Skip("patch_embed", "the model has no position embedding"),))
    if model.positions is not None:
        return PassRecord(name, "module", skipped=(Skip("patch_embed", "already folded"),))
    with torch.no_grad():
        prefix, positions = model.split_positions()
        model.prefix = None if prefix is None else model.norm_pre(prefix)
        conv = model.patch_embed.proj
        assert isinstance(conv, (nn.Conv2d, nn.Linear))
        if conv.bias is not None:
            positions = positions + conv.bias.detach()
            conv.bias = None
        model.positions = positions.clone()
    model.cls_token = model.dist_token = model.reg_token = model.pos_embed = None
    return PassRecord(name, "module", ("patch_embed",))
