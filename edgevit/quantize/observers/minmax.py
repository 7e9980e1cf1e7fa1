"""The range of all values that were seen."""

from __future__ import annotations

from edgevit.quantize.statistics import TensorStatistics


def choose_range(
    statistics: TensorStatistics, *, signed: bool, symmetric: bool, share: float = 1.0
) -> tuple[float, float]:
    """The smallest and the largest value; see :class:`edgevit.quantize.observers.Observer`."""
    return statistics.low, statistics.high
