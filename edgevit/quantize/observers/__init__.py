"""How the range of an activation is chosen from its statistics, one way a file.

``Grid.from_range(*choose_range(statistics, signed=s, symmetric=t), signed=s, symmetric=t)`` is the activation's grid.
"""

from __future__ import annotations

from typing import Protocol

from edgevit.quantize.observers import minmax, mse, percentile
from edgevit.quantize.statistics import TensorStatistics


class Observer(Protocol):
    """A way to choose a range."""

    def __call__(
        self, statistics: TensorStatistics, *, signed: bool, symmetric: bool, share: float = ...
    ) -> tuple[float, float]:
        """The range's (low, high), in the unit of the values.

        Args:
            statistics: What calibration saw.
            signed: As in :meth:`edgevit.quantize.grid.Grid.from_range`.
            symmetric: As there.
            share: Of the observer ``percentile``: of the values that shall lie inside, above 0.5 and at most 1.
        """


OBSERVERS: tuple[tuple[str, Observer], ...] = (
    ("minmax", minmax.choose_range),
    ("percentile", percentile.choose_range),
    ("mse", mse.choose_range),
)
