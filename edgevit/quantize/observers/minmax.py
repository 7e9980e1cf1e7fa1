"""The range of all values that were seen."""

from __future__ import annotations

from edgevit.quantize.placement import GridKind
from edgevit.quantize.statistics import TensorStatistics


def choose_range(statistics: TensorStatistics, kind: GridKind, share: float) -> tuple[float, float]:
    """The smallest and the largest value; see :data:`edgevit.quantize.observers.Observer`."""
    return statistics.low, statistics.high
