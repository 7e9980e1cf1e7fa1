"""Put normalisation into the patch embedding's weights; the image goes in as it is decoded, uint8 NHWC.

``W·(r·x − μ)/σ + b = (W·r/σ)·x + (b − Σ W·μ/σ)``: exact to rounding, one pass over the image less, and no way left
for an app to normalise differently.
"""

from __future__ import annotations

import torch

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.models.folds.weights import set_weights
from edgevit.models.layers import PatchEmbedding
from edgevit.models.pixels import PixelModel
from edgevit.models.swin import SwinConfig
from edgevit.models.vit import ViTConfig


def fold_input_normalization(pixels: PixelModel) -> PassRecord:
    """Move gain and offset into the patch embedding, in place."""
    name = "input_normalization"
    embed = pixels.model.patch_embed
    if not isinstance(embed, PatchEmbedding) or pixels.gain is None or pixels.offset is None:
        return PassRecord(name, "module", skipped=(Skip("patch_embed", "already folded"),))
    conv = embed.proj
    config = pixels.model.config
    assert isinstance(config, (SwinConfig, ViTConfig))
    size = config.image_size
    if embed.pad and any(side % patch for side, patch in zip(size, embed.patch, strict=True)):
        reason = "the image is padded with zeros after normalisation; the folded form would pad with another value"
        return PassRecord(name, "module", skipped=(Skip("patch_embed", reason),))
    with torch.no_grad():
        weight = conv.weight.double()
        bias = conv.bias.double() if conv.bias is not None else torch.zeros(len(weight), dtype=torch.float64)
        bias = bias + (weight * pixels.offset.double()).sum(dim=(1, 2, 3))
        set_weights(conv, weight * pixels.gain.double(), bias)
    pixels.gain = pixels.offset = None
    return PassRecord(name, "module", ("patch_embed",))
