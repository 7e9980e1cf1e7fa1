"""Fold layer scale into the Linear in front of it: ``γ⊙(W·x + b) = (diag γ·W)·x + γ⊙b``.

What is left is the residual stream's own Add, and :mod:`edgevit.models.folds.residual_rotation` can turn what writes to
it.
"""

from __future__ import annotations

from torch import nn

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.models.folds.weights import scale_outputs
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
                scale_outputs(writer, scale.gamma)
                setattr(block, part, nn.Identity())
                applied.append(f"{name}.{part}")
    skipped = () if applied else (Skip("blocks", "the model has no layer scale"),)
    return PassRecord("layer_scale", "module", tuple(applied), skipped)
