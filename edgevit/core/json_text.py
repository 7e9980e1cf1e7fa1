"""JSON from files that anybody may have written: what is wrong with one is a ``ValueError``, whatever it is."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

MOST_LEVELS = 64
"""Lists and tables within one another; what reads them afterwards calls itself for each."""


MOST_VALUES = 1 << 17
"""In a document from anywhere: each takes some hundred bytes, whatever it takes in the file, and some microseconds."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""What half of a character beyond 16 bits is written with, in a pair or by itself."""


class RepeatedKeyError(ValueError):
    """A table has a key twice; readers differ in which of them they take."""


def parse_json(text: str | bytes, *, most_levels: int = MOST_LEVELS, unique: bool = False) -> Any:
    """The document.

    Args:
        text: Of bytes, the encoding is one of those that JSON may have.
        most_levels: Lists and tables within one another.
        unique: Take nothing that another reader may understand in another way: a key that a table has twice, whole
            numbers beyond 64 bits, bytes that are not UTF-8, and halves of characters. Nor more than ``MOST_VALUES``
            values.

    Raises:
        ValueError: It is not JSON, is nested too deeply, or has a number that is none or that no float holds.
        RepeatedKeyError: A table has a key twice.
    """
    try:
        if unique:
            text = text.decode() if isinstance(text, bytes) else text
            if sum(map(text.count, ",[{")) >= MOST_VALUES and count_values(text) > MOST_VALUES:
                raise ValueError(f"it has more than {MOST_VALUES} values")
            data = json.loads(
                text,
                parse_constant=_refuse_constant,
                parse_float=_read_float,
                parse_int=_read_int,
                object_pairs_hook=_collect_pairs,
            )
            if _SURROGATE.search(text):
                _refuse_half_characters(data)
        else:
            data = json.loads(text, parse_constant=_refuse_constant, parse_float=_read_float)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
    level, found = 0, [data]
    while found := [item for item in found if isinstance(item, dict | list)]:
        level += 1
        if level > most_levels:
            raise ValueError(f"nested more than {most_levels} deep")
        found = [child for item in found for child in (item.values() if isinstance(item, dict) else item)]
    return data


def count_values(text: str) -> int:
    """Of a document, without making them: it has one, and each list or table that is not empty one more than commas."""
    plain = text.replace("\\\\", "").replace('\\"', "")  # so that every other part is within quotes
    bare = "".join("0".join(plain.split('"')[::2]).split())
    opened = bare.count("[") + bare.count("{") - bare.count("[]") - bare.count("{}")
    return 1 + bare.count(",") + opened


def _refuse_half_characters(data: Any) -> None:
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError as exc:
        raise ValueError("it has half of a character, which other readers refuse") from exc


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _read_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _read_int(text: str) -> int:
    if len(text) > 20 or not -(1 << 63) <= (value := int(text)) < 1 << 63:
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _collect_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise RepeatedKeyError(f"a table has the key {twice[:40]!a} twice")
    return data
