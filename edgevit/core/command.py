"""Commands that a message suggests: as they can be pasted into a shell."""

from __future__ import annotations

import shlex
from pathlib import Path


def write_command(*parts: str | Path) -> str:
    """The command line ``edgevit …``; paths are given as such, so that none is taken for an option."""
    texts = [f"./{part}" if isinstance(part, Path) and str(part).startswith("-") else str(part) for part in parts]
    return shlex.join(["edgevit", *texts])
