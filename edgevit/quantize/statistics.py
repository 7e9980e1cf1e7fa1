"""TensorStatistics: the range and a histogram of an activation's values, for the observers.

They are taken in call by call, and their size grows with neither the number of images nor that of the values.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 2048
# Of one activation and call, so that counting costs less than running the model; 512 images give tens of millions.
HISTOGRAM_SAMPLE = 1 << 16
MIN_EXPONENT = -110  # of a bin's width: values divided by it stay within float32


class TensorStatistics:
    """What is kept of one activation, in the unit of its values.

    The width of a bin is a power of two and bins begin at its multiples. So when the range grows, bins become one by
    twos, and no count is ever split between two bins.

    Attributes:
        low: The smallest value; NaN where there was one, as ``high`` is.
        high: The largest value.
        histogram: ``(BINS,) int64``: how many of a sample of the values lie in each bin. The bins cover ``low`` to
            ``high``, at most about twice as far in all.
    """

    def __init__(self, sample: int = HISTOGRAM_SAMPLE) -> None:
        self.low, self.high = math.inf, -math.inf
        self.histogram: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self._sample = sample
        self._calls = 0
        self._first = 0  # where the first bin begins, in widths of a bin
        self._exponent = MIN_EXPONENT  # of the width, as a power of two

    @property
    def bin_width(self) -> float:
        """Of each bin."""
        return math.ldexp(1.0, self._exponent)

    @property
    def edges(self) -> NDArray[np.float64]:
        """Where bins begin and end: ``(BINS + 1,) float64``."""
        steps: NDArray[np.float64] = np.arange(BINS + 1, dtype=np.float64)
        return self.bin_width * (steps + self._first)

    @property
    def finite(self) -> bool:
        """Whether no value was NaN or infinite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def add(self, values: NDArray[Any]) -> None:
        """Take in the values of one call, of any shape and numeric type."""
        numbers = np.asarray(values, np.float32)
        self.low = float(np.minimum(self.low, numbers.min()))  # NaN where there is one
        self.high = float(np.maximum(self.high, numbers.max()))
        if self.finite:
            self._cover()
            self._count(numbers.reshape(-1), numbers.shape[-1] if numbers.ndim else 1)
        self._calls += 1

    def _cover(self) -> None:
        """Widen and move the bins until they hold all values so far."""
        exponent = self._exponent
        if not self.histogram.any():
            # A constant gets bins that are fine for its size, yet not so fine that their number exceeds float32.
            spread = max(self.high - self.low, max(abs(self.low), abs(self.high)) / BINS)
            exponent = max(math.frexp(spread / BINS)[1] - 1, MIN_EXPONENT)
        while _bin(self.high, exponent) - _bin(self.low, exponent) >= BINS:
            exponent += 1
        first = _bin(self.low, exponent)
        if (exponent, first) != (self._exponent, self._first):
            used = np.flatnonzero(self.histogram)
            histogram = np.zeros_like(self.histogram)
            np.add.at(histogram, ((used + self._first) >> (exponent - self._exponent)) - first, self.histogram[used])
            self.histogram, self._exponent, self._first = histogram, exponent, first

    def _count(self, numbers: NDArray[np.float32], channels: int) -> None:
        """Count every value, or evenly spaced ones, others in each call, that go through all channels."""
        stride = -(-numbers.size // self._sample)
        while math.gcd(stride, channels) > 1:
            stride += 1
        some = numbers[self._calls % stride :: stride]
        bins = np.floor(some * np.float32(math.ldexp(1.0, -self._exponent))).astype(np.intp)
        self.histogram += np.bincount(bins - self._first, minlength=BINS)


def _bin(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))
