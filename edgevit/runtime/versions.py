"""Comparing versions of engine libraries."""

from __future__ import annotations

import re


class OtherVersion(str):
    """Why an engine does not open here, where it is the engine library's version and not the device."""


def parse_version(text: str, parts: int = 2) -> tuple[int, ...]:
    """The leading numbers of a version: ``2026.4.1-22982-releases`` is (2026, 4)."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    numbers = [int(n) for n in match.group().split(".")] if match else []
    return tuple((numbers + [0] * parts)[:parts])
