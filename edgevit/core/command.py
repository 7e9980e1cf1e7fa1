"""Commands that a message suggests: as they can be pasted into a shell."""

from __future__ import annotations

import shlex
from pathlib import Path


def write_path(path: Path) -> str:
    """The path as an argument that is no option."""
    return shlex.quote(_mark(path))


def write_command(*parts: str | Path) -> str:
    """The command line ``edgevit …``; paths are given as such, so that none is taken for an option."""
    return shlex.join(["edgevit", *(_mark(part) if isinstance(part, Path) else part for part in parts)])


def _mark(path: Path) -> str:
    return f"./{path}" if str(path).startswith("-") else str(path)
