"""Run the patch embedding as one Linear on NHWC pixels.

A convolution whose stride is its kernel is a matrix product over patches. Written so, the image goes from the decoder's
uint8 rows to patches by one copy of bytes; the convolution needs it in another layout and as floats first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.models.folds.weights import make_linear
from edgevit.models.layers import PatchEmbedding
from edgevit.models.pixels import PixelModel


class PatchLinear(nn.Module):
    """``(B, H, W, 3) → (B, (H/p)·(W/p), C)``, tokens in row-major order."""

    def __init__(self, conv: nn.Conv2d, patch: tuple[int, int], padding: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        self.patch, self.padding = patch, padding
        weight = conv.weight.detach().permute(0, 2, 3, 1).flatten(1)  # (C, ph·pw·3): the order of the pixels
        self.proj = make_linear(weight, conv.bias)

    def forward(self, image: Tensor) -> Tensor:
        _, height, width, channels = image.shape
        (ph, pw), (top, left) = self.patch, self.padding
        rows, cols = (height + 2 * top) // ph, (width + 2 * left) // pw
        bottom, right = rows * ph - top - height, cols * pw - left - width
        if bottom < 0 or right < 0:  # no convolution reads what fills no whole patch
            image = image[:, : rows * ph - top, : cols * pw - left]
        if top or left:
            image = F.pad(image, (0, 0, left, max(right, 0), top, max(bottom, 0)))
        # (B·rows, ph, cols, pw·3) → (B·rows, cols, ph, pw·3): rank 4, and runs of pw·3 bytes stay together
        x = image.reshape(-1, ph, cols, pw * channels).transpose(1, 2)
        x = x.reshape(-1, rows * cols, ph * pw * channels)
        tokens: Tensor = self.proj(x.to(torch.float32))
        return tokens


def fold_patch_linear(pixels: PixelModel) -> PassRecord:
    """Replace the convolution, in place; exact to the order of summation."""
    name = "patch_linear"
    embed = pixels.model.patch_embed
    if pixels.gain is not None:
        return PassRecord(name, "module", skipped=(Skip("patch_embed", "normalisation is not folded"),))
    if not isinstance(embed, PatchEmbedding):
        return PassRecord(name, "module", skipped=(Skip("patch_embed", "already folded"),))
    pixels.model.patch_embed = PatchLinear(embed.proj, embed.patch, embed.padding)
    pixels.channels_last = True
    return PassRecord(name, "module", ("patch_embed",))
