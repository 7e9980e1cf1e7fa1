"""Scales of weights against the largest magnitude and against a finer search."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edgevit.quantize.methods.weight_scale import choose_group_scales, choose_weight_scale, find_group


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


def test_choose_group_scales_are_those_of_each_group_alone() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_t(3, (96, 5)).astype(np.float32)
    importance = rng.uniform(0, 1, 96)
    scales = choose_group_scales(weight, 32, importance, 7)
    assert scales.shape == (3, 5)
    np.testing.assert_array_equal(scales[1], choose_weight_scale(weight[32:64], importance[32:64], 7))
    assert (scales <= abs(weight.reshape(3, 32, 5)).max(1) / 7 * 1.00001).all()


@pytest.mark.parametrize(("channels", "largest", "wanted"), [(192, 64, 64), (96, 64, 32), (96, 24, 16), (40, 64, None)])
def test_find_group_is_the_largest_power_of_two_that_divides(channels: int, largest: int, wanted: int | None) -> None:
    assert find_group(channels, largest) == wanted
