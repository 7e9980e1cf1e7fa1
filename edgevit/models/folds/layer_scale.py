"""Fold layer scale into the Linear in front of it: ``γ⊙(W·x + b) = (diag γ·W)·x + γ⊙b``.

What is left is the residual stream's own Add, and :mod:`edgevit.models.folds.residual_rotation` can turn what writes to
it.
"""

from __future__ import annotations

import torch
from torch import nn

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.models.layers import GatedMlp, LayerScale, Mlp
from edgevit.models.pixels import PixelModel
from edgevit.models.vit import EncoderBlock


def fold_layer_scale(pixels: PixelModel) -> PassRecord:
    """Scale the rows of every output projection behind which there is a layer scale, in place; exact to rounding."""
    applied = []
    for name, block in pixels.model.named_modules():
        if not isinstance(block, EncoderBlock):
            continue
        assert isinstance(block.mlp, (Mlp, GatedMlp))
        for part, writer in (("ls1", block.attn.proj), ("ls2", block.mlp.fc2)):
            scale = getattr(block, part)
            if isinstance(scale, LayerScale):
                _scale_rows(writer, scale.gamma.detach())
                setattr(block, part, nn.Identity())
                applied.append(f"{name}.{part}")
    skipped = () if applied else (Skip("blocks", "the model has no layer scale"),)
    return PassRecord("layer_scale", "module", tuple(applied), skipped)


def _scale_rows(linear: nn.Linear, gamma: torch.Tensor) -> None:
    # New tensors: the originals may be shared with the model that the parity check runs.
    linear.weight = nn.Parameter(linear.weight.detach() * gamma[:, None], requires_grad=False)
    if linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias.detach() * gamma, requires_grad=False)
