"""Accuracy figures with their intervals, from logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers import Pixels, Values
from edgevit.measure.accuracy import AccuracyMeter, decibels
from edgevit.pixels.images import ImageSet
from edgevit.pixels.preprocess import Preprocess


def collect_logits(run: Callable[[Pixels], Values], images: ImageSet, preprocess: Preprocess) -> Values:
    """``(N, K) float32`` for the images in their order, one call each."""
    return np.concatenate([np.array(run(batch.pixels)) for batch in images.batches(preprocess, 1)])


def summarize_accuracy(logits: Values, reference: Values, images: ImageSet) -> dict[str, Any]:
    """Agreement (Wilson), SQNR (bootstrap over images), top-1, and its drop (Tango), as value, low and high.

    Args:
        logits: ``(N, K)`` the engine's.
        reference: ``(N, K)`` the float model's.
        images: The N images.
    """
    labels = None if images.labels is None else np.asarray(images.labels)
    meter = AccuracyMeter(reference.shape[1], labelled=labels is not None)
    meter.update(logits, reference, labels, images.files)
    found = meter.result()
    low, high = _bootstrap_sqnr(logits, reference)
    assert found.agreement_low is not None, "the meter has images"
    assert found.agreement_high is not None
    return {
        "images": found.images,
        "agreement_percent": {
            "value": found.agreement_percent,
            "low": 100 * found.agreement_low,
            "high": 100 * found.agreement_high,
        },
        "sqnr_db": {"value": found.sqnr_db, "low": low, "high": high},
        "top1_percent": {"value": found.top1_percent},
        "reference_top1_percent": {"value": found.reference_top1_percent},
        "drop_points": {"value": found.drop_points, "low": found.drop_low, "high": found.drop_high},
        "gained": found.gained,
        "lost": found.lost,
    }


def compare_flips(lost: int, gained: int) -> float:
    """McNemar's exact two-sided p value: how often flips as uneven as these fall, if either way is as likely.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12
    (1947); by the binomial distribution, since flips are few.

    Args:
        lost: Images that only the float model answers right.
        gained: Images that only the engine answers right.
    """
    flips, fewer = lost + gained, min(lost, gained)
    return min(1.0, 2 * sum(math.comb(flips, k) for k in range(fewer + 1)) / 2**flips)


def _bootstrap_sqnr(logits: Values, reference: Values, resamples: int = 2000) -> tuple[float | None, float | None]:
    """95 % percentile interval; an image's signal and noise are drawn together."""
    truth = reference.astype(np.float64)
    signal, noise = (truth**2).sum(axis=1), ((logits - truth) ** 2).sum(axis=1)
    draws = np.random.default_rng(0).integers(0, len(signal), (resamples, len(signal)))
    low, high = np.quantile(signal[draws].sum(axis=1) / np.maximum(noise[draws].sum(axis=1), 1e-30), [0.025, 0.975])
    return decibels(float(low), 1.0), decibels(float(high), 1.0)
