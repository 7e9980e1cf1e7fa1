"""Grid, FloatGrid: the numbers that eight-bit codes stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import onnx_ir as ir

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.quantize.placement import GridKind


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
    def from_range(cls, kind: GridKind, low: float, high: float) -> Grid:
        """The finest grid of a placement's kind from ``low`` to ``high``, after these are widened to include 0.

        Args:
            kind: Symmetric grids reach code -128 for values beyond the range, as ONNX's QuantizeLinear does.
            low: In the unit of the values; ignored by ``u8_zero``, where values below 0 become 0.
            high: Not below ``low``.

        Raises:
            ValueError: A range that is not finite, or is upside down.
        """
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError(f"no grid from {low} to {high}")
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        scale = {"u8": (high - low) / 255, "u8_zero": high / 255, "i8": max(-low, high) / 127}[kind]
        scale = scale or 1.0  # of nothing but zeros, for which any grid will do
        scale = float(np.float32(max(scale, float(np.finfo(np.float32).tiny))))  # engines flush subnormals to 0
        zero = min(max(round(-low / scale), 0), 255) if kind == "u8" else 0
        return cls(scale, zero, -128 if kind == "i8" else 0, 127 if kind == "i8" else 255)

    @property
    def signed(self) -> bool:
        """Whether codes are int8, else uint8."""
        return self.low_code < 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the codes."""
        return np.dtype(np.int8 if self.signed else np.uint8)

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
