"""The range whose grid changes the values least, in the mean square."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevit.quantize.placement import GridKind
from edgevit.quantize.statistics import TensorStatistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Halvings of each end: first down to a 64th by halves, then around the best by a quarter of the last step, twice.
_COARSE = np.arange(0, 6.1, 0.5)
_REFINE = tuple(step * np.arange(-4, 5) for step in (1 / 8, 1 / 32))


def choose_range(statistics: TensorStatistics, kind: GridKind, share: float) -> tuple[float, float]:
    """The range of least expected squared error; see :data:`edgevit.quantize.observers.Observer`.

    The two ends of an asymmetric grid are searched together, from all of the values' range down to a 64th of it, and
    found to about two percent. Rounding and saturation are weighed as the engine does them, the zero point's rounding
    included; within a bin of the histogram, values are taken to be spread evenly.
    """
    low, high = min(statistics.low, 0.0), max(statistics.high, 0.0)
    if kind != "u8":  # the upper end says all
        low, high = 0.0, max(-low, high) if kind == "i8" else high
    best_low = best_high = 0.0
    # An end at 0 has nothing to search.
    for step in (_COARSE, *_REFINE):
        low_steps = np.maximum(best_low + step, 0) if low < 0 else np.zeros(1)
        high_steps = np.maximum(best_high + step, 0) if high > 0 else np.zeros(1)
        lows, highs = (a.ravel() for a in np.meshgrid(low_steps, high_steps, indexing="ij"))
        errors = _expect_errors(statistics, low * 2.0**-lows, high * 2.0**-highs, kind)
        best = int(errors.argmin())  # the widest of equals
        best_low, best_high = float(lows[best]), float(highs[best])
    low, high = low * 2.0**-best_low, high * 2.0**-best_high
    return (-high if kind == "i8" else low), high


def _expect_errors(
    statistics: TensorStatistics, lows: NDArray[np.float64], highs: NDArray[np.float64], kind: GridKind
) -> NDArray[np.float64]:
    """Mean squared error on each grid from ``lows`` to ``highs`` ``(R,)``; of a symmetric one, ``highs`` counts."""
    steps = 127 if kind == "i8" else 255
    scale = (highs - lows) / steps  # symmetric ones have 0 for their lower end here
    scale = np.where(scale > 0, scale, 1)[:, None]
    lowest = np.full_like(scale, -127) if kind == "i8" else np.rint(lows[:, None] / scale)
    highest = lowest + (254 if kind == "i8" else 255)
    # The antiderivative of (x - rounded(x))²: a whole step brings scale³/12, the rest a third of its cube. Beyond the
    # last code the rest is all of the distance.
    used = np.flatnonzero(statistics.histogram)
    edges = statistics.edges[used[0] : used[-1] + 2]
    codes = np.clip(np.rint(edges / scale), lowest, highest)
    areas = codes * scale**3 / 12 + (edges - codes * scale) ** 3 / 3
    weights = statistics.histogram[used[0] : used[-1] + 1] / (statistics.histogram.sum() * statistics.bin_width)
    errors: NDArray[np.float64] = np.diff(areas) @ weights
    return errors
