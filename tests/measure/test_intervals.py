"""Intervals, against scipy and against the likelihoods that they are derived from."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from edgevit.measure.intervals import (
    difference_interval,
    median_interval,
    paired_difference_interval,
    ratio_of_medians,
    tail_probability,
    wilson_interval,
)


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int, int]:
    """(lost, gained, trials)."""
    trials = draw(st.integers(1, 2000))
    lost = draw(st.integers(0, trials))
    return lost, draw(st.integers(0, trials - lost)), trials


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (512, 600), (1, 600), (599, 600)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_wilson_interval_equals_scipy(successes: int, trials: int, confidence: float) -> None:
    expected = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, trials, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_contains_the_estimate(case: tuple[int, int]) -> None:
    successes, trials = case
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1


def test_intervals_without_trials_say_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert paired_difference_interval(0, 0, 0) == (-1.0, 1.0)


@given(counts())
@example((0, 0, 600))
@example((600, 0, 600))
@example((0, 1, 1))
def test_paired_interval_contains_the_estimate_and_flips_with_the_sides(case: tuple[int, int, int]) -> None:
    lost, gained, trials = case
    low, high = paired_difference_interval(lost, gained, trials)
    assert -1 <= low <= (lost - gained) / trials <= high <= 1
    swapped = paired_difference_interval(gained, lost, trials)
    assert swapped == pytest.approx((-high, -low), abs=1e-9)


def test_paired_interval_without_flips_has_the_closed_form() -> None:
    z = stats.norm.ppf(0.975)
    limit = z**2 / (600 + z**2)
    assert paired_difference_interval(0, 0, 600) == pytest.approx((-limit, limit), abs=1e-9)


@pytest.mark.parametrize(
    ("lost", "gained", "trials"), [(9, 4, 100), (0, 1, 44), (3, 0, 600), (12, 12, 500), (40, 5, 80)]
)
def test_paired_interval_ends_where_the_score_test_is_just_significant(lost: int, gained: int, trials: int) -> None:
    # The test statistic from its definition: the constrained maximum of the likelihood found numerically.
    def score(delta: float) -> float:
        def loss(q: float) -> float:  # q = P(gained), P(lost) = q + delta
            p, same = q + delta, 1 - 2 * q - delta
            terms = ((lost, p), (gained, q), (trials - lost - gained, same))
            return -sum(n * math.log(max(x, 1e-300)) for n, x in terms if n)

        bounds = (max(0.0, -delta), (1 - delta) / 2)
        q = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        return (lost - gained - trials * delta) / math.sqrt(trials * (2 * q + delta - delta**2))

    low, high = paired_difference_interval(lost, gained, trials)
    assert score(low) == pytest.approx(1.959964, abs=2e-3)
    assert score(high) == pytest.approx(-1.959964, abs=2e-3)


def test_paired_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    truth, covered = (0.02, 0.01), 0
    for _ in range(500):
        lost, gained, _ = generator.multinomial(400, [*truth, 1 - sum(truth)])
        low, high = paired_difference_interval(int(lost), int(gained), 400)
        covered += low <= truth[0] - truth[1] <= high
    assert 0.92 <= covered / 500 <= 0.98


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        # Newcombe 1998, Table II, method 10
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_difference_interval_is_the_papers(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    assert difference_interval(*first, *second) == pytest.approx((low, high), abs=5e-5)
    assert difference_interval(*second, *first) == pytest.approx((-high, -low), abs=5e-5)
    assert difference_interval(*first, 0, 0) == (-1.0, 1.0)


def test_difference_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    counts = np.stack([rng.binomial(60, 0.97, 2000), rng.binomial(600, 0.97, 2000)], axis=1)
    inside = [low <= 0 <= high for low, high in (difference_interval(a, 60, b, 600, 0.99) for a, b in counts.tolist())]
    assert np.mean(inside) > 0.98


def test_ratio_of_medians_equals_scipys_bootstrap() -> None:
    generator = np.random.default_rng(1)
    drift = 1 + 0.2 * np.sin(np.arange(40))
    a, b = 8 * drift * generator.lognormal(0, 0.3, 40), 10 * drift * generator.lognormal(0, 0.3, 40)

    def statistic(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return np.median(x, axis=axis) / np.median(y, axis=axis)

    expected = stats.bootstrap(
        (a, b), statistic, paired=True, method="percentile", n_resamples=20000, rng=np.random.default_rng(2)
    ).confidence_interval
    value, low, high = ratio_of_medians(a, b, resamples=20000)
    assert value == pytest.approx(np.median(a) / np.median(b))
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=0.01)


def test_median_interval_equals_scipys_bootstrap() -> None:
    values = 8 * np.random.default_rng(3).lognormal(0, 0.3, 40)
    expected = stats.bootstrap(
        (values,), np.median, method="percentile", n_resamples=20000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert median_interval(values, resamples=20000) == pytest.approx((expected.low, expected.high), rel=0.01)
    assert median_interval([2.5]) == (2.5, 2.5)
    with pytest.raises(ValueError, match="rounds"):
        median_interval([])


FIGURES = st.floats(1e-3, 1e6)


@settings(deadline=None)
@given(st.lists(st.tuples(FIGURES, FIGURES), min_size=1, max_size=30), st.integers(0, 5))
def test_ratio_of_medians_contains_the_estimate_and_inverts_when_swapped(
    rounds: list[tuple[float, float]], seed: int
) -> None:
    a, b = zip(*rounds, strict=True)
    value, low, high = ratio_of_medians(a, b, resamples=200, seed=seed)
    assert low <= value <= high
    assert ratio_of_medians(b, a, resamples=200, seed=seed) == pytest.approx((1 / value, 1 / high, 1 / low))


def test_ratio_of_medians_of_a_constant_ratio_has_no_width() -> None:
    b = np.linspace(5, 50, 11)
    assert ratio_of_medians(b / 2, b) == pytest.approx((0.5, 0.5, 0.5), rel=1e-9)
    assert ratio_of_medians(b, b) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0, 2.0]), ([], []), ([0.0], [1.0]), ([math.nan], [1.0])])
def test_ratio_of_medians_refuses_what_has_no_ratio(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError):
        ratio_of_medians(a, b)


@pytest.mark.parametrize(("successes", "trials", "chance"), [(0, 5, 0.1), (3, 10, 0.1), (30, 40, 0.5), (60, 300, 0.25)])
def test_tail_probability_is_the_binomial_distributions(successes: int, trials: int, chance: float) -> None:
    wanted = stats.binom.sf(successes - 1, trials, chance)
    assert tail_probability(successes, trials, chance) == pytest.approx(wanted, rel=1e-9)
    assert tail_probability(successes, trials, 0.0) == float(successes == 0)
    assert tail_probability(successes, trials, 1.0) == 1
