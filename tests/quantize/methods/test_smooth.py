"""SmoothQuant's factors against its formula, and the exactness of what they change."""

from __future__ import annotations

import numpy as np

from edgevit.quantize.methods.smooth import ALPHAS, list_factors, make_affine


def test_list_factors_begins_with_off_and_follows_the_paper() -> None:
    rng = np.random.default_rng(0)
    inputs = (rng.standard_normal((200, 6)) * [0.5, 1, 2, 3, 4, 5]).astype(np.float32)
    weight = rng.standard_normal((6, 9)).astype(np.float32)
    off, *factors = list_factors(inputs, weight)
    np.testing.assert_array_equal(off, np.ones(6))
    assert len(factors) == len(ALPHAS)
    for alpha, factor in zip(ALPHAS, factors, strict=True):
        # Xiao et al., equation 4; one common factor changes no grid.
        wanted = abs(weight).max(1) ** (1 - alpha) / abs(inputs).max(0) ** alpha
        np.testing.assert_allclose(factor / factor[0], wanted / wanted[0], rtol=1e-4)
        assert factor.dtype == np.float32


def test_list_factors_of_silent_channels_stay_finite_and_bounded() -> None:
    rng = np.random.default_rng(0)
    inputs, weight = rng.standard_normal((50, 5)).astype(np.float32), rng.standard_normal((5, 4)).astype(np.float32)
    inputs[:, 1] = 0
    weight[3] = 0
    for factor in list_factors(inputs, weight):
        assert np.isfinite(factor).all()
        assert 0.05 <= factor.min() <= factor.max() <= 20.001


def test_make_affine_in_front_of_its_linear_is_exact_in_float() -> None:
    rng = np.random.default_rng(0)
    inputs, weight = rng.standard_normal((50, 5)), rng.standard_normal((5, 4))
    factor = rng.uniform(0.2, 3, 5).astype(np.float32)
    affine = make_affine(inputs.astype(np.float32), factor, 0.7)
    moved = (inputs - affine.center) * affine.factor
    np.testing.assert_allclose(moved, inputs * factor - 0.7, rtol=1e-5, atol=1e-6)
    undone = moved @ (weight / affine.factor[:, None]) + affine.center @ weight
    np.testing.assert_allclose(undone, inputs @ weight, rtol=1e-5, atol=1e-5)
