"""How the range of an activation is chosen from its statistics, one way a file.

``Grid.from_range(kind, *choose_range(statistics, kind, share))`` is the activation's grid. ``share`` is for
``percentile``: of the values that shall lie inside, above 0.5 and at most 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from edgevit.quantize.observers import minmax, mse, percentile
from edgevit.quantize.placement import GridKind
from edgevit.quantize.statistics import TensorStatistics

Observer: TypeAlias = Callable[[TensorStatistics, GridKind, float], tuple[float, float]]
"""From statistics, the grid's kind and a share to the range's (low, high), in the unit of the values."""

OBSERVERS: Mapping[str, Observer] = {
    "minmax": minmax.choose_range,
    "percentile": percentile.choose_range,
    "mse": mse.choose_range,
}
