"""JSON from files that anybody may have written: what is wrong with one is a ``ValueError``, whatever it is."""

from __future__ import annotations

import json
import math
from typing import Any

MOST_LEVELS = 64
"""Lists and tables within one another; what reads them afterwards calls itself for each."""


def parse_json(text: str | bytes) -> Any:
    """The document.

    Raises:
        ValueError: It is not JSON, is nested too deeply, or has a number that is none or that no float holds.
    """
    try:
        data = json.loads(text, parse_constant=_refuse_constant, parse_float=_read_float)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
    level, found = 0, [data]
    while found:
        level += 1
        if level > MOST_LEVELS:
            raise ValueError(f"nested more than {MOST_LEVELS} deep")
        within = [item.values() if isinstance(item, dict) else item for item in found if isinstance(item, dict | list)]
        found = [child for children in within for child in children]
    return data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _read_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value
