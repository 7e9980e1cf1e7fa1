"""Moments of a Linear's quantised inputs: what bias correction and GPTQ work from."""

from __future__ import annotations

from collections.abc import Iterable
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


def measure_moments(chunks: Iterable[npt.NDArray[np.float32]]) -> Moments:
    """Of the tokens of all ``(T, K) float32`` together; one chunk at least."""
    count, shift = 0, None
    for tokens in chunks:
        if shift is None:  # near the mean, so that the products below can be float32
            shift = tokens.mean(axis=0, dtype=np.float64).astype(np.float32)
            total = np.zeros(len(shift))
            products = np.zeros((len(shift), len(shift)), np.float32)
        moved = tokens - shift
        count += len(moved)
        total += tokens.sum(axis=0, dtype=np.float64)
        products += moved.T @ moved
    assert shift is not None
    mean = total / count
    return Moments(mean, products.astype(np.float64) / count - np.outer(mean - shift, mean - shift))
