"""Files that only save time: read and written whole, by several processes at a time, and never an error."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from edgevit.core.cache_folder import claim_folder, is_behind_link

NAMES: Mapping[str, re.Pattern[str]] = {
    "kernels": re.compile(r"\d[0-9A-Za-z.-]*-[0-9a-f]{16}\.bin"),
    "timing": re.compile(r"\d[0-9A-Za-z.-]*\.cache"),
    "canary": re.compile(r"[0-9a-f]{64}\.json"),
}
"""By the folder that they lie in, what files there are called."""

_ABANDONED_SECONDS = 24 * 3600
_PARTIAL = re.compile(r"\.(.+)\.[0-9a-f]+")


def is_cache_name(name: str) -> bool:
    """Whether a path below the cache, such as ``tensorrt/timing/10.3.0-Orin-8.7-8.cache``, is one that it makes."""
    path = PurePosixPath(name)
    pattern = NAMES.get(path.parent.name)
    return pattern is not None and pattern.fullmatch(path.name) is not None


def read_cache(path: Path) -> bytes | None:
    """The file's content; ``None`` where there is none that can be read."""
    try:
        return path.read_bytes() or None
    except OSError:
        return None


def write_cache(root: Path, name: str, content: bytes, *, most_files: int) -> bool:
    """Replace the file in one step, and delete the oldest of the same kind beyond ``most_files`` in its folder.

    Args:
        root: The cache, which is marked as one.
        name: Below it, in a folder and of a form that stand in :data:`NAMES`.
        content: Of the whole file.
        most_files: So many are kept.

    Returns:
        Whether it was written; a full disk or a folder without permission is none of the caller's trouble.
    """
    if not is_cache_name(name):  # it would never make room
        raise ValueError(f"{name} is not of a form in NAMES of edgevit/runtime/cache_file.py")
    path = root / name
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        claim_folder(root)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
        if not is_behind_link(root, path.parent):
            _make_room(path.parent, NAMES[path.parent.name], most_files)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        return False
    return True


def _make_room(folder: Path, pattern: re.Pattern[str], most_files: int) -> None:
    """Remove files with names that the cache makes, and nothing else; another process may be at the same."""
    ages: dict[Path, float] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False):
                    ages[folder / entry.name] = entry.stat().st_mtime
    whole = sorted((p for p in ages if pattern.fullmatch(p.name)), key=lambda p: ages[p], reverse=True)
    halves = [p for p in ages if (match := _PARTIAL.fullmatch(p.name)) and pattern.fullmatch(match[1])]
    killed = [p for p in halves if time.time() - ages[p] > _ABANDONED_SECONDS]
    for path in (*whole[most_files:], *killed):
        path.unlink(missing_ok=True)
