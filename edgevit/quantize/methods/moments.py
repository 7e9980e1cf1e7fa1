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


class MomentSums:
    """Of tokens that come in parts; at least one."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, tokens: npt.NDArray[np.float32]) -> None:
        """Take ``(T, K) float32`` in."""
        if not self._count:  # near the mean, so that the products can be float32
            self._shift = tokens.mean(axis=0, dtype=np.float64).astype(np.float32)
            self._total = np.zeros(tokens.shape[1])
            self._products = np.zeros((tokens.shape[1], tokens.shape[1]), np.float32)
        moved = tokens - self._shift
        self._count += len(moved)
        self._total += tokens.sum(axis=0, dtype=np.float64)
        self._products += moved.T @ moved

    def finish(self) -> Moments:
        """Of all tokens together."""
        mean = self._total / self._count
        covariance = self._products.astype(np.float64)
        covariance /= self._count
        offset = mean - self._shift
        for channel, own in enumerate(offset):  # the outer product would be as large again
            covariance[channel] -= own * offset
        return Moments(mean, covariance)
