"""Files that only save time: read and written whole, by several processes at a time, and never an error."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def read_cache(path: Path) -> bytes | None:
    """The file's content; ``None`` where there is none that can be read."""
    try:
        return path.read_bytes() or None
    except OSError:
        return None


def write_cache(path: Path, content: bytes, *, most_files: int) -> bool:
    """Replace the file in one step, and delete the oldest beyond ``most_files`` in its folder.

    Returns:
        Whether it was written; a full disk or a folder without permission is none of the caller's trouble.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
        _make_room(path.parent, most_files)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        return False
    return True


def _make_room(folder: Path, most_files: int) -> None:
    files = sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime, reverse=True)
    for path in files[most_files:]:
        path.unlink(missing_ok=True)
