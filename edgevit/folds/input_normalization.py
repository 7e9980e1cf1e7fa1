"""Take the image as it is decoded, uint8 NHWC, with normalisation in the patch embedding's weights.

``W·((r·x − μ)/σ) + b = (W·r/σ)·x + (b − Σ W·μ/σ)``: exact to rounding, one pass over the image less, and no way left
for an app to normalise differently.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from typing import Any as Preprocess
from edgevit.record import PassRecord, Skip


class PixelModel(nn.Module):
    """A model that takes pixels as decoded: ``(B, H, W, 3) uint8 → (B, classes) float32``.

    Without ``normalize`` the model's first convolution has absorbed mean, std and rescaling.
    """

    def __init__(self, model: nn.Module, normalize: tuple[Tensor, Tensor] | None) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("gain", normalize[0] if normalize else None)
        self.register_buffer("offset", normalize[1] if normalize else None)
        self.gain: Tensor | None
        self.offset: Tensor | None

    def forward(self, image: Tensor) -> Tensor:
        x = image.permute(0, 3, 1, 2).to(torch.float32)
        if self.gain is not None and self.offset is not None:
            x = x * self.gain + self.offset
        y: Tensor = self.model(x)
        return y


def normalization(preprocess: Preprocess) -> tuple[Tensor, Tensor]:
    """Gain and offset of ``x·gain + offset`` for uint8 pixels, each ``(1, 3, 1, 1) float32``."""
    mean = torch.tensor(preprocess.mean, dtype=torch.float64)
    std = torch.tensor(preprocess.std, dtype=torch.float64)
    gain, offset = preprocess.rescale / std, -mean / std
    return gain.float().reshape(1, 3, 1, 1), offset.float().reshape(1, 3, 1, 1)


def fold_input_normalization(model: PixelModel) -> PassRecord:
    """Move gain and offset into the patch embedding, in place."""
    name = "input_normalization"
    embed = model.model.patch_embed
    conv = embed.proj
    assert isinstance(conv, nn.Conv2d)
    if model.gain is None or model.offset is None:
        return PassRecord(name, "module", skipped=(Skip("patch_embed", "already folded"),))
    size = model.model.config.image_size
    if any(side % patch for side, patch in zip(size, embed.patch, strict=True)):
        reason = "the image is padded with zeros after normalisation; the folded form would pad with another value"
        return PassRecord(name, "module", skipped=(Skip("patch_embed", reason),))
    with torch.no_grad():
        weight = conv.weight.double()
        bias = conv.bias.double() if conv.bias is not None else torch.zeros(len(weight), dtype=torch.float64)
        bias = bias + (weight * model.offset.double()).sum(dim=(1, 2, 3))
        conv.weight = nn.Parameter((weight * model.gain.double()).float(), requires_grad=False)
        conv.bias = nn.Parameter(bias.float(), requires_grad=False)
    model.gain = model.offset = None
    return PassRecord(name, "module", ("patch_embed",))
