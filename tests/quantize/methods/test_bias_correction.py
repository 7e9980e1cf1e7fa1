"""Bias correction on tokens: the means of both Linears' outputs."""

from __future__ import annotations

import numpy as np

from edgevit.quantize.methods.bias_correction import correct_bias


def test_correct_bias_makes_the_outputs_means_equal() -> None:
    rng = np.random.default_rng(0)
    inputs = (rng.standard_normal((400, 12)) + 1).astype(np.float32)
    quantized = np.clip(np.floor(inputs * 3) / 3, -1, 2).astype(np.float32)
    weight = rng.standard_normal((12, 5)).astype(np.float32)
    stored = (np.floor(weight * 5) / 5).astype(np.float32)
    bias = rng.standard_normal(5).astype(np.float32)
    corrected = correct_bias(bias, weight, stored, inputs.mean(0, np.float64), quantized.mean(0, np.float64))
    wanted = (inputs.astype(np.float64) @ weight + bias).mean(0)
    before = (quantized.astype(np.float64) @ stored + bias).mean(0)
    found = (quantized.astype(np.float64) @ stored + corrected).mean(0)
    assert abs(before - wanted).max() > 0.5
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert corrected.dtype == np.float32


def test_correct_bias_when_nothing_is_quantised_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    inputs, weight = rng.standard_normal((50, 4)).astype(np.float32), rng.standard_normal((4, 3)).astype(np.float32)
    bias = rng.standard_normal(3).astype(np.float32)
    mean = inputs.mean(0, np.float64)
    np.testing.assert_array_equal(correct_bias(bias, weight, weight, mean, mean), bias)
