"""Figures: plain numbers that were measured, which JSON can hold.

No figure is ever NaN or infinite: where there is none, the field is ``None`` and is left out of the file.
"""

from __future__ import annotations

import dataclasses
import math


class Figures:
    """A dataclass whose figures are finite.

    Raises:
        ValueError: One is not.
    """

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{f.name} = {value} is not finite")
