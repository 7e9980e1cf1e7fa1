"""Confidence intervals for what is measured on a sample: proportions, paired differences, latencies, their ratios."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, as fractions from 0 to 1; (0, 1) for no trials.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    if trials == 0:
        return 0.0, 1.0
    z = _normal_quantile(confidence)
    p, shrink = successes / trials, 1 + z * z / trials
    centre = (p + z * z / (2 * trials)) / shrink
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials)) / shrink
    # Rounding must not push the estimate out of its own interval at 0 and at 1.
    return min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half))


def tail_probability(successes: int, trials: int, chance: float) -> float:
    """How probable it is that so many successes or more come by chance: the binomial distribution's upper tail."""
    if successes <= 0 or chance >= 1:
        return 1.0
    if chance <= 0:
        return 0.0
    logs = [
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        + k * math.log(chance) + (trials - k) * math.log1p(-chance)
        for k in range(successes, trials + 1)
    ]  # fmt: skip
    return min(1.0, math.fsum(math.exp(value) for value in logs))


def paired_difference_interval(lost: int, gained: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Tango's score interval of (lost − gained) / trials, where the same trials were made twice.

    Chosen because it keeps its coverage when flips are few and says something useful when there are none: ±z²/(n + z²)
    then, where a Wald interval would be empty.

    Source: Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17 (1998).

    Args:
        lost: Trials right the first time and wrong the second.
        gained: Trials wrong the first time and right the second.
        trials: All trials; the interval is (−1, 1) when there are none.
        confidence: Coverage.
    """
    if trials == 0:
        return -1.0, 1.0
    z, estimate = _normal_quantile(confidence), (lost - gained) / trials

    def score(delta: float) -> float:
        # The null's maximum-likelihood estimate of P(gained) solves a·q² + b·q + c = 0.
        a, b = 2 * trials, -lost - gained + (2 * trials - lost + gained) * delta
        c = -gained * delta * (1 - delta)
        q = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = trials * (2 * q + delta * (1 - delta))
        difference = lost - gained - trials * delta
        if variance <= 0:
            return math.copysign(math.inf, difference) if difference else 0.0
        return difference / math.sqrt(variance)

    def solve(outside: float, limit: float) -> float:
        inside = estimate  # the score falls as delta grows; |score| < z on this side of the limit
        for _ in range(60):
            middle = (inside + outside) / 2
            if abs(score(middle)) < abs(limit):
                inside = middle
            else:
                outside = middle
        return inside

    return solve(-1.0, z), solve(1.0, -z)


def difference_interval(
    successes: int, trials: int, other_successes: int, other_trials: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the difference of two proportions of independent samples, from −1 to 1; (−1, 1) for no trials.

    Source: Newcombe, "Interval estimation for the difference between independent proportions: comparison of eleven
    methods", Statistics in Medicine 17 (1998), method 10, of Wilson's two intervals.
    """
    if trials == 0 or other_trials == 0:
        return -1.0, 1.0
    p, q = successes / trials, other_successes / other_trials
    p_low, p_high = wilson_interval(successes, trials, confidence)
    q_low, q_high = wilson_interval(other_successes, other_trials, confidence)
    return p - q - math.hypot(p - p_low, q_high - q), p - q + math.hypot(p_high - p, q - q_low)


def ratio_of_medians(
    values: npt.ArrayLike, baseline: npt.ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Ratio of two medians over rounds with its percentile bootstrap interval: ``(ratio, low, high)``.

    Rounds are drawn with replacement and in pairs, so what disturbs both of a round's figures cancels. Quantiles are
    taken of the ratios' logarithms, so swapping the two gives the reciprocal.

    Args:
        values: ``(R,)`` one figure a round, above 0.
        baseline: ``(R,)`` figures from the same rounds.
        confidence: Coverage.
        resamples: Bootstrap samples.
        seed: Of the random draws.

    Raises:
        ValueError: Different or no rounds, or a figure that is not above 0.
    """
    a, b = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise ValueError(f"rounds must pair up: {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all() and (a > 0).all() and (b > 0).all()):
        raise ValueError("every round's figure must be finite and above 0")
    draws = np.random.default_rng(seed).integers(0, a.size, (resamples, a.size))
    logs = np.log(np.median(a[draws], axis=1)) - np.log(np.median(b[draws], axis=1))
    estimate = float(np.log(np.median(a)) - np.log(np.median(b)))
    tail = (1 - confidence) / 2
    low, high = (float(q) for q in np.quantile(logs, [tail, 1 - tail]))
    # With few, strangely paired rounds the estimate can lie outside the percentiles; the interval then reaches to it.
    return math.exp(estimate), math.exp(min(low, estimate)), math.exp(max(high, estimate))


def median_interval(
    values: npt.ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the median of ``(R,)`` figures, one a round; their own value where R is 1.

    Raises:
        ValueError: No rounds.
    """
    a = np.asarray(values, np.float64)
    if a.ndim != 1 or a.size == 0:
        raise ValueError(f"an interval takes rounds, not {a.shape}")
    draws = np.random.default_rng(seed).integers(0, a.size, (resamples, a.size))
    tail = (1 - confidence) / 2
    low, high = (float(q) for q in np.quantile(np.median(a[draws], axis=1), [tail, 1 - tail]))
    return low, high


def _normal_quantile(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
