"""Figures: plain numbers that were measured, which JSON can hold.

No figure is ever NaN or infinite: where there is none, the field is ``None`` and is left out of the file.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from edgevit.core.schema import FieldError


class Figures:
    """A dataclass whose figures are finite.

    Raises:
        FieldError: Some are not; all of them are listed.
    """

    def __post_init__(self) -> None:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        tables = {name: table for name, table in values.items() if isinstance(table, Mapping)}
        values |= {f"{name}.{key}": value for name, table in tables.items() for key, value in table.items()}
        offenders = {n: v for n, v in values.items() if isinstance(v, float) and not math.isfinite(v)}
        if offenders:
            raise FieldError([f"{name} = {value} is not finite" for name, value in offenders.items()])
