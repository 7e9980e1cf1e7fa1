"""OperandRange: what was seen of an operand of a product, image by image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class OperandRange:
    """Of an operand of a product: smallest and largest value of all, and the largest of every head and row."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self._rows: npt.NDArray[np.float32] | None = None

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Take in ``(B, A, N, M)``, or ``(B, N, M)`` of a map.

        With windows, B counts images times windows; a row is one place of any window.
        """
        rows = (values if values.ndim == 4 else values[:, None]).max(axis=(0, 3))
        self._rows = rows if self._rows is None else np.maximum(rows, self._rows)
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(rows.max()))

    @property
    def rows(self) -> npt.NDArray[np.float32]:
        """``(A, N)``."""
        assert self._rows is not None
        return self._rows
