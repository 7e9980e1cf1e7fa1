"""Moments of a Linear's quantised inputs: what bias correction and GPTQ work from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Moments:
    """Over tokens.

    Attributes:
        mean: ``(K,) float64``.
        covariance: ``(K, K) float64``, about the mean.
    """

    mean: npt.NDArray[np.float64]
    covariance: npt.NDArray[np.float64]


def measure_moments(tokens: npt.NDArray[np.float32]) -> Moments:
    """Of ``(T, K) float32``."""
    mean = tokens.mean(axis=0, dtype=np.float64)
    centred = tokens - mean.astype(np.float32)
    # A float32 product: the tokens are centred, and far fewer than would drown in a float32 sum.
    return Moments(mean, (centred.T @ centred).astype(np.float64) / len(tokens))
