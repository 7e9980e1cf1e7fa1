"""Position embeddings and relative position biases for another grid or window, as their publishers resample them."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]

Resampling = Literal["antialiased", "bicubic", "offset", "corners", "linear"]
"""How a publisher's own code fits positions and biases to another size.

``antialiased``: bicubic, the filter widened where the new grid is coarser (timm, open_clip, DINOv2 with registers; a
Swin's biases as timm spaces them). ``bicubic``: without that (transformers, DeiT, MAE, Microsoft's Swin). ``offset``:
bicubic by a scale that counts 0.1 patches more (DINO, DINOv2). ``corners``: bicubic from corner to corner
(torchvision). ``linear``: linear from corner to corner (Google's JAX code, by SciPy's ``zoom``).
"""

_OFFSET = 0.1


def resample_positions(
    positions: Tensor, prefix_tokens: int, old: Size, new: Size, resampling: Resampling = "antialiased"
) -> Tensor:
    """Resample a table of absolute positions: ``(1, prefix + H·W, C) → (1, prefix + h·w, C) float32``.

    The prefix tokens' positions stay.

    Args:
        positions: ``(1, prefix + H·W, C)``.
        prefix_tokens: Tokens before the patches that the table covers.
        old: ``(H, W)`` patches.
        new: ``(h, w)`` patches.
        resampling: Whose way.
    """
    prefix, grid = positions[:, :prefix_tokens].float(), positions[:, prefix_tokens:].float()
    grid = grid.reshape(1, *old, -1).permute(0, 3, 1, 2)
    if resampling == "offset":
        scales = [(n + _OFFSET) / math.sqrt(old[0] * old[1]) for n in new]
        grid = F.interpolate(grid, scale_factor=scales, mode="bicubic")
    elif resampling in ("corners", "linear"):
        mode = "bicubic" if resampling == "corners" else "bilinear"
        grid = F.interpolate(grid, size=new, mode=mode, align_corners=True)
    else:
        grid = F.interpolate(grid, size=new, mode="bicubic", antialias=resampling == "antialiased")
    return torch.cat([prefix, grid.flatten(2).transpose(1, 2)], dim=1)


def resample_bias_table(table: Tensor, old: Size, new: Size, resampling: Resampling = "antialiased") -> Tensor:
    """Resample biases by relative position: ``((2·M−1)², A) → ((2·m−1)², A) float32`` for windows ``M`` and ``m``.

    Bicubic, as Microsoft's ``load_pretrained`` does; or as timm's ``resize_rel_pos_bias_table`` (after BEiT): offsets
    are spaced geometrically, finest near zero, so that near neighbours keep their biases; linear between them.

    Args:
        table: One row for every offset, row-major.
        old: The window that it is for.
        new: The window that it shall be for.
        resampling: ``bicubic``, or timm's way for every other.
    """
    heads = table.shape[1]
    grid = table.float().reshape(2 * old[0] - 1, 2 * old[1] - 1, heads)
    if resampling == "bicubic":
        wanted = 2 * new[0] - 1, 2 * new[1] - 1
        resized = F.interpolate(grid.permute(2, 0, 1).unsqueeze(0), size=wanted, mode="bicubic")
        return resized[0].permute(1, 2, 0).reshape(-1, heads)
    rows, cols = (_offset_weights(o, n) for o, n in zip(old, new, strict=True))
    return torch.einsum("yr,xc,rch->yxh", rows, cols, grid).reshape(-1, heads)


def _offset_weights(old: int, new: int) -> Tensor:
    """Weights of the old offsets in every new one: ``(2·new−1, 2·old−1) float32``, rows sum to 1."""
    at = _geometric_offsets(old - 1, new - 1)
    wanted = torch.arange(-(new - 1), new, dtype=torch.float32).clamp(at[0], at[-1])
    right = torch.bucketize(wanted, at).clamp(1, len(at) - 1) if len(at) > 1 else torch.zeros_like(wanted).long()
    left = (right - 1).clamp(0)
    span = (at[right] - at[left]).clamp_min(1e-12)
    share = (wanted - at[left]) / span
    weights = torch.zeros(len(wanted), len(at))
    lines = torch.arange(len(wanted))
    weights[lines, left] += 1 - share
    weights[lines, right] += share
    return weights


def _geometric_offsets(old: int, new: int) -> Tensor:
    """Where the old offsets ``−old … old`` lie on the axis of the new ones: steps 1, q, q², … that end near ``new``."""
    low, high = 1.01, 1.5
    q = high
    while high - low > 1e-6:
        q = (low + high) / 2
        if (1 - q**old) / (1 - q) > new:
            high = q
        else:
            low = q
    steps = [q**k for k in range(old)]
    right = [sum(steps[: k + 1]) for k in range(old)]
    return torch.tensor([*(-r for r in reversed(right)), 0.0, *right])
