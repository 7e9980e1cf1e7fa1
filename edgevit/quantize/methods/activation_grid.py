"""Ranges of activations by their effect: the grid whose rounding and clipping disturbs the next product least."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgevit.quantize.grid import Grid
from edgevit.quantize.placement import GridKind

_FRACTIONS = (1.0, 0.87, 0.75, 0.64, 0.53, 0.43, 0.33, 0.24)


def choose_grid(
    kind: GridKind, values: npt.NDArray[np.float32], measure: Callable[[npt.NDArray[np.float32]], float] | None = None
) -> Grid:
    """The best of the grids that end at fractions of the smallest and of the largest value.

    Both ends are searched in turn, twice, as one step is as wide as the whole range allows.

    Args:
        kind: Of the grid.
        values: A sample of the activation, of any shape.
        measure: Loss of an error of the shape of ``values``; the sum of squares where absent.
    """
    loss_of = measure or (lambda error: float(np.square(error, dtype=np.float64).sum()))
    low, high = float(values.min()), float(values.max())
    best, best_loss = Grid.from_range(kind, low, high), np.inf
    tried: dict[tuple[float, float], float] = {}

    def try_range(a: float, b: float) -> float:
        nonlocal best, best_loss
        if (a, b) not in tried:
            grid = Grid.from_range(kind, a * low, b * high)
            tried[a, b] = loss_of(grid.apply(values) - values)
            if tried[a, b] < best_loss:
                best, best_loss = grid, tried[a, b]
        return tried[a, b]

    at_low = at_high = 1.0
    if kind != "u8":
        _descend(lambda f: try_range(f, f))
        return best
    for _ in range(2):
        at_high = _descend(functools.partial(try_range, at_low))
        at_low = _descend(functools.partial(lambda b, a: try_range(a, b), at_high))
    return best


def _descend(loss_of: Callable[[float], float]) -> float:
    """The best fraction on the way down, which ends where two in a row are no better."""
    best, best_loss, worse = 1.0, np.inf, 0
    for fraction in _FRACTIONS:
        loss = loss_of(fraction)
        if loss < best_loss:
            best, best_loss, worse = fraction, loss, 0
        else:
            worse += 1
        if worse == 2:
            break
    return best
