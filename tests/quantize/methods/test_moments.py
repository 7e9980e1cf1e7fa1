"""Moments against numpy's own covariance in float64."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.quantize.methods.moments import MomentSums


@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_moments_of_parts_equal_covariance_in_float64(offset: float) -> None:
    rng = np.random.default_rng(0)
    tokens = (offset + rng.standard_normal((500, 6)) @ rng.standard_normal((6, 6))).astype(np.float32)
    sums = MomentSums()
    for part in (tokens[:200], tokens[200:201], tokens[201:]):
        sums.add(part)
    moments = sums.finish()
    np.testing.assert_allclose(moments.mean, tokens.mean(0, dtype=np.float64), rtol=1e-9)
    wanted = np.cov(tokens.T.astype(np.float64), bias=True)
    np.testing.assert_allclose(moments.covariance, wanted, rtol=1e-4, atol=1e-4)
    assert moments.mean.dtype == moments.covariance.dtype == np.float64
