"""Rotary positions (Su et al., 2021, arXiv:2104.09864) of patches on a grid.

As in DINOv3 (arXiv:2508.10104), EVA-02 (arXiv:2303.11331) and the Perception Encoder (arXiv:2504.13181), with DINOv3's
order of channels: a head's channels c and c + D/2 are a point in the plane, which is turned by an angle that the
patch's place sets: the first quarter of the channels by its row, the second by its column, each channel at a period of
its own. Scores then depend on how far two patches are apart. At a fixed size of the image the angles are constants.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def make_periods(base: float, head_width: int) -> tuple[float, ...]:
    """The usual periods, from 1 to almost ``base`` in equal ratios: a quarter as many as a head has channels."""
    count = head_width // 4
    return tuple(base ** (i / count) for i in range(count))


def make_rotation_table(
    grid: tuple[int, int],
    periods: tuple[float, ...],
    prefix_tokens: int,
    suffix_tokens: int = 0,
    start: float | None = None,
    reference: tuple[int, int] | None = None,
) -> Tensor:
    """Cosines and sines of every token's angles: ``(2, 1, P + h·w + S, D) float32``.

    Tokens that are no patch are not turned. Patches have the coordinates of their centres, from -1 to 1 along each
    side, or are counted.

    Args:
        grid: Patches down and across, ``(h, w)``.
        periods: D / 4 of them, in units of the coordinates.
        prefix_tokens: P, before the patches.
        suffix_tokens: S, behind them.
        start: Where patches are counted, what the count begins with. What it is matters only to scores between patches
            and other tokens.
        reference: Where they are counted, how many there shall be along each side, by default as many as there are:
            steps are as much longer as patches are fewer.
    """
    # On the CPU and with its values, also where the model is built on the meta device.
    frequency = 2 * math.pi / torch.tensor(periods, dtype=torch.float64, device="cpu")
    counts = [torch.arange(n, dtype=torch.float64, device="cpu") for n in grid]
    if start is None:
        places = [(2 * count + 1) / n - 1 for count, n in zip(counts, grid, strict=True)]
    else:
        places = [(count + start) * r / n for count, n, r in zip(counts, grid, reference or grid, strict=True)]
    rows, cols = torch.meshgrid(*places, indexing="ij")
    half = torch.cat([at.reshape(-1, 1) * frequency for at in (rows, cols)], dim=1)  # (h·w, D/2)
    angles = F.pad(torch.cat([half, half], dim=1), (0, 0, prefix_tokens, suffix_tokens))
    return torch.stack([angles.cos(), angles.sin()]).float().unsqueeze(1)


def rotate_positions(x: Tensor, table: Tensor) -> Tensor:
    """``(B, A, N, D) → (B, A, N, D)``, turned by the angles of the first N tokens of a table.

    Written in the way that OpenVINO's transformation knows (its kernel is called RoPE). Measured for DINOv3-S at 224
    pixels, twelve blocks, against the same model without rotation, OpenVINO 2026.4.1, A B B A in 16 rounds, f32 and
    bf16: 0.99 and 0.99 of the time so; 1.02 and 1.02 with the sign in the sines; 1.06 and 0.97 with the halves changed
    over by a product; 1.15 and 1.09 with Linears of twice as many outputs, in the place of the change. Attention is
    fused in every block in all forms, and TensorRT-RTX 1.7.1 for SM86 needs no layer more for any but the product.
    """
    cos, sin = table[:, :, : x.shape[2]].unsqueeze(1)
    half = x.shape[-1] // 2
    turned: Tensor = x * cos + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * sin  # slices: a Split is not known
    return turned
