"""Scales of weights: symmetric, per output channel, each with the least squared error among shrunken maxima."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgevit.methods.gptq import LARGEST_CODE

_SHRINK = tuple(1.0 - 0.02 * step for step in range(21))  # down to 0.6


def choose_weight_scale(
    weight: npt.NDArray[np.float32], importance: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.float32]:
    """``(N,) float32`` for ``(K, N) float32``.

    Args:
        weight: Rows are input channels.
        importance: ``(K,)``, the mean square of each input; all the same where absent.
    """
    largest = np.abs(weight).max(axis=0)
    largest[largest == 0] = 1.0
    share = np.ones(len(weight)) if importance is None else importance + 1e-12 * importance.max() + 1e-30
    best, scale = np.full(weight.shape[1], np.inf), largest / LARGEST_CODE
    for factor in _SHRINK:
        step = (factor * largest / LARGEST_CODE).astype(np.float32)
        error = np.clip(np.rint(weight / step), -LARGEST_CODE, LARGEST_CODE) * step - weight
        loss = share @ (error.astype(np.float64) ** 2)
        better = loss < best
        best, scale = np.where(better, loss, best), np.where(better, step, scale)
    result: npt.NDArray[np.float32] = scale.astype(np.float32)
    return result
