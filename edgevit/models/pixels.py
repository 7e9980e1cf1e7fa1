"""A model that takes images as they are decoded."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from edgevit.models.layers import to_unit_length
from edgevit.pixels.preprocess import Preprocess


class PixelModel(nn.Module):
    """``(B, H, W, 3) uint8`` to what the model gives, a tensor ``(B, K) float32`` or a tuple of feature maps.

    :mod:`edgevit.models.folds.input_normalization` moves the normalisation into the model's first convolution.

    Args:
        model: Canonical.
        preprocess: Gives the normalisation.
        unit_length: Divide the result by its Euclidean norm.
    """

    def __init__(self, model: nn.Module, preprocess: Preprocess, *, unit_length: bool = False) -> None:
        super().__init__()
        self.model = model
        self.unit_length = unit_length
        mean = torch.tensor(preprocess.mean, dtype=torch.float64)
        std = torch.tensor(preprocess.std, dtype=torch.float64)
        # x·gain + offset, each (1, 3, 1, 1); None once they are folded
        self.register_buffer("gain", (preprocess.rescale / std).float().reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("offset", (-mean / std).float().reshape(1, 3, 1, 1), persistent=False)
        self.gain: Tensor | None
        self.offset: Tensor | None
        self.channels_last = False  # True once the model takes the image as it is (edgevit.models.folds.patch_linear)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        result: Tensor | tuple[Tensor, ...] = self.model(self._normalize(image))
        if self.unit_length and isinstance(result, Tensor):
            return to_unit_length(result)
        return result

    def _normalize(self, image: Tensor) -> Tensor:
        if self.channels_last:
            return image
        # Cast before the permute: engines then see the permute as nothing but a change of layout and copy nothing.
        x = image.to(torch.float32).permute(0, 3, 1, 2)
        if self.gain is not None and self.offset is not None:
            x = x * self.gain + self.offset
        return x


def copy_structure(module: nn.Module) -> nn.Module:
    """A copy whose modules are new and whose tensors are shared, so that a fold can replace what it changes."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(t): t for t in tensors})
