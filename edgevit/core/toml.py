"""TOML files: the standard library's parser, with this package's errors."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from edgevit.core.errors import EdgevitError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def load_toml(path: str | os.PathLike[str], error: type[EdgevitError]) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: The file; UTF-8, with or without a byte order mark.
        error: The exception class to raise.

    Raises:
        EdgevitError: As ``error``, when the file cannot be read or is not TOML; with line and column.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as exc:  # ValueError: a zero byte in the path
        reason = getattr(exc, "strerror", None) or exc
        raise error(f"{path} cannot be read: {reason}", "check the path and its permissions") from exc
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line, column = _locate(data, exc.start)
        message = f"{path} is not UTF-8 text (at line {line}, column {column})"
        raise error(message, "TOML files are UTF-8: save the file in that encoding") from exc
    try:
        return tomllib.loads(text)
    except RecursionError as exc:
        raise error(f"{path} is nested too deeply", "correct the file and run again") from exc
    except ValueError as exc:  # TOMLDecodeError, and int()'s own refusal of thousands of digits
        line, column = _locate(data, len(data.rstrip()))
        reason = str(exc).replace("at end of document", f"at line {line}, column {column}, the end of the file")
        raise error(f"{path} is not valid TOML: {reason}", "correct that line and run again") from exc


def _locate(data: bytes, offset: int) -> tuple[int, int]:
    """Line and column of a byte, both from 1."""
    before = data[:offset]
    return before.count(b"\n") + 1, offset - (before.rfind(b"\n") + 1) + 1
