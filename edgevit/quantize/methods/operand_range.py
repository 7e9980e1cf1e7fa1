"""OperandRange: what was seen of an operand of a product, image by image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]


class OperandRange:
    """Of an operand of a product: smallest and largest value of all, and the largest of every head and row."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self._rows: Rows | None = None
        self._kept: Rows | None = None

    def add(self, values: npt.NDArray[np.float32], *, judges: bool = False) -> None:
        """Take in ``(B, A, N, M)``, or ``(B, N, M)`` of a map.

        With windows, B counts images times windows; a row is one place of any window. An image that ``judges`` what is
        made of the others has no part in :attr:`unjudged_rows`.
        """
        rows = (values if values.ndim == 4 else values[:, None]).max(axis=(0, 3))
        self._rows = _join(self._rows, rows)
        if not judges:
            self._kept = _join(self._kept, rows)
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(rows.max()))

    @property
    def rows(self) -> Rows:
        """``(A, N)``."""
        assert self._rows is not None
        return self._rows

    @property
    def unjudged_rows(self) -> Rows:
        """``(A, N)``, of the images that judge nothing; of all where none is left."""
        return self.rows if self._kept is None else self._kept


def _join(known: Rows | None, rows: Rows) -> Rows:
    return rows if known is None else np.maximum(rows, known)
