"""Chosen grids against those from the smallest to the largest value."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.quantize.grid import Grid
from edgevit.quantize.methods.activation_grid import choose_grid
from edgevit.quantize.placement import GridKind

KINDS: tuple[GridKind, ...] = ("u8", "i8", "u8_zero")


@pytest.mark.parametrize("kind", KINDS)
def test_choose_grid_of_a_long_tail_is_near_the_best_and_beats_the_whole_range(kind: GridKind) -> None:
    rng = np.random.default_rng(0)
    values = np.append(rng.standard_normal(100_000), 10.0).astype(np.float32)
    if kind == "u8_zero":
        values = abs(values)
    low, high = float(values.min()), float(values.max())

    def measure(grid: Grid) -> float:
        return float(np.square(grid.apply(values) - values, dtype=np.float64).sum())

    ends = np.linspace(0.05, 1, 20)
    best = min(measure(Grid.from_range(kind, a * low, b * high)) for a in ends for b in ends if a == b or kind == "u8")
    found = measure(choose_grid(kind, values))
    assert found < 0.9 * measure(Grid.from_range(kind, low, high))
    # It tries eight fractions of each end, which are an eighth to a quarter apart.
    assert found < 1.25 * best


@pytest.mark.parametrize("kind", KINDS)
def test_choose_grid_where_clipping_never_pays_is_the_whole_range(kind: GridKind) -> None:
    low = 0.0 if kind == "u8_zero" else -1.0
    values = np.linspace(low, 1, 1001, dtype=np.float32)
    assert choose_grid(kind, values) == Grid.from_range(kind, low, 1.0)


def test_choose_grid_of_one_tail_moves_that_end_alone() -> None:
    values = np.append(np.linspace(-1, 1, 1_000_000), 4.0).astype(np.float32)
    grid = choose_grid("u8", values)
    low, high = ((code - grid.zero_point) * grid.scale for code in (grid.low_code, grid.high_code))
    assert high < 3
    np.testing.assert_allclose(low, -1, atol=2 * grid.scale)


def test_choose_grid_minimises_the_measure_that_it_is_given() -> None:
    values = np.append(np.linspace(-1, 1, 1000), 8.0).astype(np.float32)
    # What counts is the large value alone, which squares of all values would clip.
    grid = choose_grid("u8", values, lambda error: float(abs(error[-1])))
    assert abs(grid.apply(values[-1:]) - 8).max() <= grid.scale / 2


@pytest.mark.parametrize("kind", KINDS)
def test_choose_grid_of_zeros_is_a_grid(kind: GridKind) -> None:
    grid = choose_grid(kind, np.zeros(5, np.float32))
    assert grid.apply(np.zeros(1, np.float32)) == 0
