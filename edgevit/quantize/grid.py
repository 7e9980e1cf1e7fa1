"""Grid, FloatGrid: the numbers that eight-bit codes stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Grid:
    """Evenly spaced numbers ``(code - zero_point) * scale``; zero is always one of them.

    Attributes:
        scale: Above 0; rounded to float32, which is what engines compute with.
        zero_point: The code of 0.
        low_code: Smaller values become this code.
        high_code: Larger values become this code.
    """

    scale: float
    zero_point: int
    low_code: int
    high_code: int

    def __post_init__(self) -> None:
        scale = float(np.float32(self.scale))
        if not (0 < scale < math.inf and -128 <= self.low_code <= self.zero_point <= self.high_code):
            raise ValueError(f"not a grid: {self}")
        if self.high_code > (127 if self.low_code < 0 else 255):
            raise ValueError(f"the codes of {self} are neither int8 nor uint8")
        object.__setattr__(self, "scale", scale)

    @classmethod
    def from_range(cls, low: float, high: float, *, signed: bool, symmetric: bool, narrow: bool = True) -> Grid:
        """The finest grid from ``low`` to ``high``, after these are widened to include 0.

        Args:
            low: In the unit of the values; ignored by a symmetric unsigned grid, where values below 0 become 0.
            high: Not below ``low``.
            signed: int8, else uint8.
            symmetric: With zero point 0.
            narrow: Whether a symmetric signed grid ends at code -127; else values beyond the range reach -128, as they
                do in ONNX's QuantizeLinear. The scale is the same.

        Raises:
            ValueError: A range that is not finite, or is upside down.
        """
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError(f"no grid from {low} to {high}")
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        if symmetric:
            first, last, zero = (-127 if narrow else -128, 127, 0) if signed else (0, 255, 0)
            scale = (max(-low, high) if signed else high) / last
        else:
            first, last = (-128, 127) if signed else (0, 255)
            scale = (high - low) / (last - first)
        if scale == 0:
            scale = 1.0  # of nothing but zeros, for which any grid will do
        scale = float(np.float32(max(scale, float(np.finfo(np.float32).tiny))))  # engines flush subnormals to 0
        if not symmetric:
            zero = min(max(first + round(-low / scale), first), last)
        return cls(scale, zero, first, last)

    @property
    def signed(self) -> bool:
        """Whether codes are int8, else uint8."""
        return self.low_code < 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the codes."""
        return np.dtype(np.int8 if self.signed else np.uint8)

    @property
    def low(self) -> float:
        """The smallest number of the grid."""
        return (self.low_code - self.zero_point) * self.scale

    @property
    def high(self) -> float:
        """The largest number of the grid."""
        return (self.high_code - self.zero_point) * self.scale

    def quantize(self, values: NDArray[np.floating[Any]]) -> NDArray[np.int8] | NDArray[np.uint8]:
        """Codes ``int8`` or ``uint8`` of the shape of ``values``: ONNX's QuantizeLinear of float32, half to even."""
        with np.errstate(over="ignore"):
            codes = np.asarray(values, np.float32) / np.float32(self.scale)
        np.rint(codes, out=codes)
        np.clip(codes, self.low_code - self.zero_point, self.high_code - self.zero_point, out=codes)
        codes += np.float32(self.zero_point)
        return codes.astype(np.int8) if self.signed else codes.astype(np.uint8)

    def dequantize(self, codes: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """ONNX's DequantizeLinear to float32."""
        numbers: NDArray[np.float32] = (codes.astype(np.int32) - self.zero_point).astype(np.float32)
        numbers *= np.float32(self.scale)
        return numbers

    def apply(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """What is left of ``values`` after a QuantizeLinear and DequantizeLinear of ONNX, bit for bit."""
        with np.errstate(over="ignore"):
            steps = np.asarray(values, np.float32) / np.float32(self.scale)
        np.rint(steps, out=steps)
        np.clip(steps, self.low_code - self.zero_point, self.high_code - self.zero_point, out=steps)
        steps += 0.0  # there is no code of -0
        steps *= np.float32(self.scale)
        return steps


@dataclass(frozen=True)
class FloatGrid:
    """FP8 numbers (E4M3) times a scale; Micikevicius et al. 2022, FP8 Formats for Deep Learning.

    Attributes:
        scale: Above 0.
    """

    scale: float
    zero_point: ClassVar[int] = 0
    largest: ClassVar[float] = 448.0

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the codes."""
        return ir.DataType.FLOAT8E4M3FN.numpy()
