"""Statistics against numpy on all values at once."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevit.quantize.statistics import BINS, TensorStatistics


def check(statistics: TensorStatistics, values: npt.NDArray[np.float32], sampled: bool = False) -> None:
    assert statistics.finite
    assert statistics.low == values.min()
    assert statistics.high == values.max()
    edges = statistics.edges
    assert len(edges) == BINS + 1
    np.testing.assert_array_equal(np.diff(edges), statistics.bin_width)
    assert edges[0] <= values.min()
    assert values.max() < edges[-1]
    if not sampled:
        # Bins are half open, while numpy's last one is closed.
        expected = np.histogram(values, np.append(edges, np.inf))[0]
        np.testing.assert_array_equal(statistics.histogram, expected[:-1])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(-300, 300), st.floats(-30, 30)), min_size=1, max_size=6), st.integers(0, 99))
def test_statistics_when_the_range_grows_counts_every_value_in_its_bin(
    runs: list[tuple[float, float]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    statistics = TensorStatistics()
    parts = [(middle + np.exp2(size) * rng.standard_normal((4, 9))).astype(np.float32) for middle, size in runs]
    for part in parts:
        statistics.add(part)
    check(statistics, np.stack(parts))


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 1e-45, -1e-45, 1e-30, 3e38, -3e38, 16777217.0, 0.1])
def test_statistics_of_a_constant_has_it_in_one_bin(value: float) -> None:
    statistics = TensorStatistics()
    statistics.add(np.full((3, 2), value, np.float32))
    assert statistics.histogram.max() == statistics.histogram.sum() == 6
    place = int(statistics.histogram.argmax())
    assert statistics.edges[place] <= np.float32(value) <= statistics.edges[place + 1]


def test_statistics_bins_use_at_least_half_of_the_histogram() -> None:
    rng = np.random.default_rng(0)
    for high in rng.uniform(1e-3, 1e3, 50):
        statistics = TensorStatistics()
        statistics.add(np.linspace(-0.3 * high, high, 10_000, dtype=np.float32))
        assert np.flatnonzero(statistics.histogram).size >= BINS // 2


def test_statistics_of_large_values_samples_all_channels_alike() -> None:
    statistics = TensorStatistics(sample=1000)
    rng = np.random.default_rng(0)
    # Each channel has values of its own, so that a sample that skips channels would show.
    values = (np.arange(64) + rng.random((20, 100, 64))).astype(np.float32)
    for part in values:
        statistics.add(part)
    check(statistics, values, sampled=True)
    total = int(statistics.histogram.sum())
    assert 10_000 < total <= 20_000
    per_channel = np.histogram(statistics.edges[:-1], np.arange(65), weights=statistics.histogram)[0]
    np.testing.assert_allclose(per_channel, total / 64, rtol=0.05)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_statistics_of_one_value_that_is_not_finite_are_not(bad: float, place: int) -> None:
    statistics = TensorStatistics()
    for call in range(3):
        values = np.arange(12, dtype=np.float32).reshape(3, 4)
        values[1, 2] = bad if call == place else values[1, 2]
        statistics.add(values)
    assert not statistics.finite
