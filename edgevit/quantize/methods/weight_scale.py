"""Scales of weights: symmetric, per output channel, each with the least squared error among shrunken maxima."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgevit.quantize.methods.gptq import LARGEST_CODE
from edgevit.quantize.methods.weight_pairs import limit_pairs

LARGEST_CODE_4 = 7
_SHRINK = tuple(1.0 - 0.02 * step for step in range(21))  # down to 0.6
_STRETCH = tuple(1.0 + 0.05 * step for step in range(1, 21))  # up to 2, where no pair is over its limit


def choose_weight_scale(
    weight: npt.NDArray[np.float32],
    importance: npt.NDArray[np.float64] | None = None,
    largest_code: int = LARGEST_CODE,
    *,
    paired: bool = False,
) -> npt.NDArray[np.float32]:
    """``(N,) float32`` for ``(K, N) float32``.

    Args:
        weight: Rows are input channels.
        importance: ``(K,)``, the mean square of each input; all the same where absent.
        largest_code: Of the grid, which is symmetric.
        paired: Whether neighbouring input channels share a limit (:mod:`edgevit.quantize.methods.weight_pairs`).
    """
    largest = np.abs(weight).max(axis=0)
    largest[largest == 0] = 1.0
    share = np.ones(len(weight)) if importance is None else importance + 1e-12 * importance.max() + 1e-30
    best, scale = np.full(weight.shape[1], np.inf), largest / largest_code
    for factor in (*_SHRINK, *_STRETCH) if paired else _SHRINK:
        step = (factor * largest / largest_code).astype(np.float32)
        codes = np.clip(np.rint(weight / step), -largest_code, largest_code)
        error = (limit_pairs(codes) if paired else codes) * step - weight
        loss = share @ (error.astype(np.float64) ** 2)
        better = loss < best
        best, scale = np.where(better, loss, best), np.where(better, step, scale)
    result: npt.NDArray[np.float32] = scale.astype(np.float32)
    return result


def choose_group_scales(
    weight: npt.NDArray[np.float32], group: int, importance: npt.NDArray[np.float64], largest_code: int
) -> npt.NDArray[np.float32]:
    """A scale for every ``group`` input channels of each output channel: ``(K / group, N) float32`` for ``(K, N)``."""
    parts = zip(weight.reshape(-1, group, weight.shape[1]), importance.reshape(-1, group), strict=True)
    return np.stack([choose_weight_scale(part, share, largest_code) for part, share in parts])


def find_group(channels: int, largest: int) -> int | None:
    """The largest power of two from 16 to ``largest`` that divides the input channels; ``None`` where there is none."""
    return next((size for size in (1024, 512, 256, 128, 64, 32, 16) if size <= largest and channels % size == 0), None)
