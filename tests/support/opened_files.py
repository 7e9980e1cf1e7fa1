"""Which files Python opens by a path, told by its audit hooks."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

_LISTS: list[list[str]] = []
_HOOKED: list[bool] = []


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _LISTS and isinstance(arguments[0], str | bytes | os.PathLike):
        _LISTS[-1].append(os.fsdecode(arguments[0]))


@contextlib.contextmanager
def list_opened() -> Iterator[list[str]]:
    """The paths, as long as this lasts. A hook stays for ever, so there is one, which mostly does nothing."""
    if not _HOOKED:
        sys.addaudithook(_listen)
        _HOOKED.append(True)
    found: list[str] = []
    _LISTS.append(found)
    try:
        yield found
    finally:
        _LISTS.remove(found)
