"""Class token + its position in one constant, and the convolution's bias + the patches' positions in another."""

from __future__ import annotations

import torch

from edgevit.models.pixels import PixelModel
from edgevit.models.vit import ViT
from edgevit.record import PassRecord, Skip


def fold_position_embedding(pixels: PixelModel) -> PassRecord:
    """Replace the tokens' and positions' parameters by two constants, in place; exact to rounding."""
    name, model = "position_embedding", pixels.model
    if not isinstance(model, ViT):
        return PassRecord(name, "module", skipped=(Skip("patch_embed", "the model has no position embedding"),))
    if model.positions is not None:
        return PassRecord(name, "module", skipped=(Skip("patch_embed", "already folded"),))
    with torch.no_grad():
        assert model.pos_embed is not None
        positions = model.pos_embed.detach()
        tokens = [t.detach() for t in (model.cls_token, model.dist_token) if t is not None]
        if tokens:
            prefix = torch.cat(tokens, dim=1)
            if model.config.position_prefix:
                prefix = prefix + positions[:, : prefix.shape[1]]
                positions = positions[:, prefix.shape[1] :]
            model.prefix = prefix
        conv = model.patch_embed.proj
        if conv.bias is not None:
            positions = positions + conv.bias.detach()
            conv.bias = None
        model.positions = positions.clone()
    model.cls_token = model.dist_token = model.pos_embed = None
    return PassRecord(name, "module", ("patch_embed",))
