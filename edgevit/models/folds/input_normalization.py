"""Put normalisation into the patch embedding's weights; the image goes in as it is decoded, uint8 NHWC.

``W·(r·x − μ)/σ + b = (W·r/σ)·x + (b − Σ W·μ/σ)``: exact to rounding, one pass over the image less, and no way left
for an app to normalise differently.

A convolution that pads the normalised image with zeros reads no offset there: what each patch does read of it goes into
that patch's position, which is a constant too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.models.folds.weights import set_weights
from edgevit.models.layers import PatchEmbedding
from edgevit.models.pixels import PixelModel
from edgevit.models.swin import SwinConfig
from edgevit.models.vit import ViT, ViTConfig


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
    positioned = isinstance(pixels.model, ViT) and pixels.model.pos_embed is not None
    if any(embed.padding) and not positioned:
        reason = "the convolution pads the normalised image, and there are no positions to take up what it reads of it"
        return PassRecord(name, "module", skipped=(Skip("patch_embed", reason),))
    with torch.no_grad():
        weight, offset = conv.weight.double(), pixels.offset.double()
        bias = conv.bias.double() if conv.bias is not None else None
        if any(embed.padding):
            read = F.conv2d(offset.expand(1, -1, *size), weight, stride=embed.patch, padding=embed.padding)
            assert isinstance(pixels.model, ViT)
            _shift_positions(pixels.model, read.flatten(2).transpose(1, 2))
        else:
            bias = (torch.zeros(len(weight), dtype=torch.float64) if bias is None else bias) + (weight * offset).sum(
                dim=(1, 2, 3)
            )
        set_weights(conv, weight * pixels.gain.double(), bias)
    pixels.gain = pixels.offset = None
    return PassRecord(name, "module", ("patch_embed",))


def _shift_positions(model: ViT, offsets: Tensor) -> None:
    """Add ``(1, N, C)`` to the patches' positions."""
    assert model.pos_embed is not None
    positions = model.pos_embed.double()
    covered = positions.shape[1] - offsets.shape[1]
    shifted = torch.cat([positions[:, :covered], positions[:, covered:] + offsets], dim=1)
    model.pos_embed = nn.Parameter(shifted.float(), requires_grad=False)
