"""Other weights for a layer, as new tensors: its own may be shared with the model that the parity check runs."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def set_weights(layer: nn.Linear | nn.Conv2d | nn.LayerNorm, weight: Tensor, bias: Tensor | None) -> None:
    """Replace weight and bias by others, in the type that the layer has."""
    kind = layer.weight.dtype
    layer.weight = nn.Parameter(weight.detach().to(kind), requires_grad=False)
    layer.bias = None if bias is None else nn.Parameter(bias.detach().to(kind), requires_grad=False)


def make_linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A Linear in float32 of ``weight (N, K)`` and ``bias (N,)``."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    set_weights(linear, weight.contiguous(), bias)
    return linear


def scale_outputs(layer: nn.Linear | nn.LayerNorm, factor: Tensor) -> None:
    """Multiply what a layer gives by ``factor (C,)``."""
    rows = factor[:, None] if isinstance(layer, nn.Linear) else factor
    set_weights(layer, layer.weight * rows, None if layer.bias is None else layer.bias * factor)


def drop_affine(norm: nn.LayerNorm) -> None:
    """Leave nothing but the normalisation."""
    set_weights(norm, torch.ones_like(norm.weight), torch.zeros_like(norm.bias))
