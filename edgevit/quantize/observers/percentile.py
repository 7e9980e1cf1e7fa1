"""A range that leaves the rarest values out."""

from __future__ import annotations

import numpy as np

from edgevit.quantize.placement import GridKind
from edgevit.quantize.statistics import TensorStatistics


def choose_range(statistics: TensorStatistics, kind: GridKind, share: float) -> tuple[float, float]:
    """A range with a ``share`` of the values; see :data:`edgevit.quantize.observers.Observer`.

    Of ``u8`` half of what is left out lies on each side; of ``i8`` those of largest magnitude are left out, of
    ``u8_zero`` the largest. Within a bin of the histogram, values are taken to be spread evenly.

    Raises:
        ValueError: ``share`` is not above 0.5 and at most 1.
    """
    if not 0.5 < share <= 1:
        raise ValueError(f"share = {share} is not above 0.5 and at most 1")
    low, high = statistics.low, statistics.high
    if share == 1:
        return low, high
    # The outermost bins end where the values do.
    edges = np.clip(statistics.edges, low, high)
    below = np.concatenate([[0.0], np.cumsum(statistics.histogram)]) / statistics.histogram.sum()
    if kind == "u8":
        ends = np.interp([(1 - share) / 2, (1 + share) / 2], below, edges)
        return float(ends[0]), float(ends[1])
    if kind == "u8_zero":
        return 0.0, float(max(np.interp(share, below, edges), 0.0))
    sizes = np.unique(np.abs(np.append(edges, 0.0)))
    inside = np.interp(sizes, edges, below, right=1.0) - np.interp(-sizes, edges, below, left=0.0)
    size = float(np.interp(share, inside, sizes))
    return -size, size
