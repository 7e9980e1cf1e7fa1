"""Observers against order statistics and searches over the values themselves, without a histogram."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from edgevit.quantize.grid import Grid
from edgevit.quantize.observers import OBSERVERS
from edgevit.quantize.placement import GridKind
from edgevit.quantize.statistics import TensorStatistics

KINDS: tuple[GridKind, ...] = ("u8", "i8", "u8_zero")


def make_values(name: str, count: int = 60_000) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(5)
    normal = rng.standard_normal(count)
    values = {
        "normal": normal,
        "shifted": normal + 1.5,
        "gelu": np.where(normal > 0, normal**2 * 2, -0.17 * rng.random(count)),
        "outliers": np.where(rng.random(count) < 1e-4, 40 * normal, normal),
        "probabilities": rng.gamma(0.05, 0.2, count).clip(0, 1),
        "negative": -np.abs(normal) - 0.5,
        "heavy": rng.standard_t(2.2, count),
    }
    return values[name].astype(np.float32).reshape(-1, 10)


NAMES = ["normal", "shifted", "gelu", "outliers", "probabilities", "negative", "heavy"]


def observe(values: npt.NDArray[np.float32]) -> TensorStatistics:
    statistics = TensorStatistics(sample=values.size)
    for part in np.array_split(values, 3):
        statistics.add(part)
    return statistics


def measure_error(values: npt.NDArray[np.float32], low: float, high: float, kind: GridKind) -> float:
    grid = Grid.from_range(kind, low, high)
    return float(np.square(grid.apply(values) - values, dtype=np.float64).mean())


def test_observers_names_are_the_files() -> None:
    for name, choose in OBSERVERS.items():
        assert getattr(choose, "__module__", None) == f"edgevit.quantize.observers.{name}"


@pytest.mark.parametrize("name", NAMES)
def test_minmax_of_any_values_is_their_range(name: str) -> None:
    values = make_values(name)
    chosen = OBSERVERS["minmax"](observe(values), "i8", 1)
    assert chosen == (values.min(), values.max())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.9, 0.999])
def test_percentile_when_asymmetric_leaves_out_half_on_each_side(name: str, share: float) -> None:
    values = make_values(name)
    statistics = observe(values)
    low, high = OBSERVERS["percentile"](statistics, "u8", share)
    for end, quantile in ((low, (1 - share) / 2), (high, (1 + share) / 2)):
        # Within one bin of the order statistic.
        near = np.quantile(values, [max(quantile - 1e-4, 0), min(quantile + 1e-4, 1)])
        assert near[0] - statistics.bin_width <= end <= near[1] + statistics.bin_width


@pytest.mark.parametrize("name", NAMES)
def test_percentile_when_symmetric_leaves_out_the_largest_magnitudes(name: str) -> None:
    values = make_values(name)
    statistics = observe(values)
    low, high = OBSERVERS["percentile"](statistics, "i8", 0.99)
    assert low == -high
    near = np.quantile(np.abs(values), [0.9899, 0.9901])
    assert near[0] - statistics.bin_width <= high <= near[1] + statistics.bin_width


@pytest.mark.parametrize("kind", ["u8", "i8"])
def test_percentile_of_all_values_is_their_range(kind: GridKind) -> None:
    values = make_values("outliers")
    chosen = OBSERVERS["percentile"](observe(values), kind, 1)
    assert chosen == (values.min(), values.max())


@pytest.mark.parametrize("share", [0.5, 1.1, -1])
def test_percentile_of_an_impossible_share_raises(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        OBSERVERS["percentile"](observe(make_values("normal", 100)), "i8", share)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_mse_is_as_good_as_a_search_over_the_values_themselves(name: str, kind: GridKind) -> None:
    values = make_values(name)[::4]
    statistics = observe(values)
    low, high = OBSERVERS["mse"](statistics, kind, 1)
    found = measure_error(values, low, high, kind)
    shares = np.linspace(0.06, 1, 40) if kind != "u8" else np.geomspace(0.06, 1, 14)
    size = max(-statistics.low, statistics.high) if kind == "i8" else max(statistics.high, 0.0)
    ends = [(0.0 if kind == "u8_zero" else -share * size, share * size) for share in shares]
    if kind == "u8":
        least = min(statistics.low, 0.0)
        ends = [(a * least, b * size) for a, b in itertools.product(shares, shares)]
    best = min(measure_error(values, *end, kind) for end in ends)
    assert found <= 1.02 * best


def test_mse_of_a_normal_distribution_gives_the_step_of_max() -> None:
    """Max, "Quantizing for minimum distortion" (1960); the best step of 256 levels is 0.0308 deviations."""
    values = make_values("normal", 2_000_000)
    low, high = OBSERVERS["mse"](observe(values), "u8", 1)
    np.testing.assert_allclose((high - low) / 255, 0.0308, rtol=0.03)
    assert values.min() < low < high < values.max()


def test_mse_of_one_large_value_moves_that_end_alone() -> None:
    count, outlier = 600_000, 20.0
    values = make_values("normal", count)
    values[0, 0] = outlier
    low, high = OBSERVERS["mse"](observe(values), "u8", 1)
    # Least of (outlier - h)² / count + ((h - low) / 255)² / 12.
    balance = 12 * 255**2 / count
    np.testing.assert_allclose(high, (balance * outlier + low) / (balance + 1), rtol=0.05)
    assert -4.8 < low < -3.6


@pytest.mark.parametrize("name", ["minmax", "percentile", "mse"])
@pytest.mark.parametrize("value", [0.0, 2.5, -2.5])
@pytest.mark.parametrize("kind", KINDS)
def test_observer_of_a_constant_gives_a_grid_that_holds_it(name: str, value: float, kind: GridKind) -> None:
    if value < 0 and kind == "u8_zero":
        pytest.skip("such a grid has no values below 0")
    values = np.full((20, 4), value, np.float32)
    grid = Grid.from_range(kind, *OBSERVERS[name](observe(values), kind, 0.9999))
    np.testing.assert_allclose(grid.apply(values), values, rtol=1e-3)
