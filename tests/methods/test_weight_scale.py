"""Scales of weights against the largest magnitude and against a finer search."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edgevit.methods.weight_scale import choose_weight_scale


def measure_loss(
    weight: npt.NDArray[np.float32], scale: npt.NDArray[np.float32], importance: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    stored = np.clip(np.rint(weight / scale), -127, 127) * scale.astype(np.float64)
    return np.asarray(importance @ np.square(stored - weight))


@pytest.mark.parametrize("important", [False, True])
@pytest.mark.parametrize("tails", [2, 5, 50])
def test_choose_weight_scale_is_never_worse_than_the_largest_magnitude(tails: int, important: bool) -> None:
    rng = np.random.default_rng(tails)
    weight = rng.standard_t(tails, (300, 40)).astype(np.float32)
    importance = rng.uniform(0, 1, 300) ** 4 if important else np.ones(300)
    scale = choose_weight_scale(weight, importance if important else None)
    largest = (abs(weight).max(0) / 127).astype(np.float32)
    ours, theirs = measure_loss(weight, scale, importance), measure_loss(weight, largest, importance)
    assert (ours <= theirs * (1 + 1e-5)).all()
    assert ours.sum() < theirs.sum() or not important
    assert ((scale <= largest * 1.00001) & (scale >= 0.59 * largest)).all()


def test_choose_weight_scale_of_an_unimportant_outlier_is_smaller() -> None:
    rng = np.random.default_rng(0)
    weight = rng.uniform(-1, 1, (400, 3)).astype(np.float32)
    weight[7] = 1.5
    importance = np.ones(400)
    importance[7] = 0
    plain, weighed = choose_weight_scale(weight), choose_weight_scale(weight, importance)
    np.testing.assert_allclose(plain, 1.5 / 127, rtol=0.05)
    np.testing.assert_allclose(weighed, 1 / 127, rtol=0.05)


def test_choose_weight_scale_of_zeros_is_above_zero() -> None:
    weight = np.zeros((4, 2), np.float32)
    weight[1, 1] = 127.0
    scale = choose_weight_scale(weight, np.zeros(4))
    assert scale.dtype == np.float32
    assert (scale > 0).all()
    assert np.isfinite(scale).all()
