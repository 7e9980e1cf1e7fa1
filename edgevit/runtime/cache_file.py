"""Files that only save time: read and written whole, by several processes at a time, and never an error."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from edgevit.core.cache_folder import claim_folder, is_behind_link

NAMES: Mapping[str, re.Pattern[str]] = {
    "kernels": re.compile(r"\d[0-9A-Za-z.-]*-[0-9a-f]{16}\.bin"),
    "timing": re.compile(r"\d[0-9A-Za-z.-]*\.cache"),
    "canary": re.compile(r"[0-9a-f]{64}\.json"),
    "compiled": re.compile(r"[0-9a-f]{64}\.blob"),
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


def write_cache(
    root: Path,
    name: str,
    content: bytes,
    *,
    most_files: int,
    most_bytes: int | None = None,
    private: bool = False,
) -> bool:
    """Replace the file in one step, and delete the oldest of the same kind in its folder beyond what may be kept.

    Args:
        root: The cache, which is marked as one.
        name: Below it, in a folder and of a form that stand in :data:`NAMES`.
        content: Of the whole file.
        most_files: So many are kept.
        most_bytes: So much is kept of them together, but of the newest in any case.
        private: Whether nobody else may read or write the file, and the folder where it is made for it.

    Returns:
        Whether it was written; a full disk or a folder without permission is none of the caller's trouble.
    """
    if not is_cache_name(name):  # it would never make room
        raise ValueError(f"{name} is not of a form in NAMES of edgevit/runtime/cache_file.py")
    path = root / name
    partial = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        claim_folder(root)
        path.parent.mkdir(0o700 if private else 0o777, parents=True, exist_ok=True)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666), "wb") as stream:
            stream.write(content)
        os.replace(partial, path)
        if not is_behind_link(root, path.parent):
            _make_room(path.parent, NAMES[path.parent.name], most_files, most_bytes)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        return False
    return True


def _make_room(folder: Path, pattern: re.Pattern[str], most_files: int, most_bytes: int | None) -> None:
    """Remove files with names that the cache makes, and nothing else; another process may be at the same."""
    ages: dict[Path, float] = {}
    sizes: dict[Path, int] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False):
                    found = entry.stat()
                    ages[folder / entry.name], sizes[folder / entry.name] = found.st_mtime, found.st_size
    whole = sorted((p for p in ages if pattern.fullmatch(p.name)), key=lambda p: ages[p], reverse=True)
    halves = [p for p in ages if (match := _PARTIAL.fullmatch(p.name)) and pattern.fullmatch(match[1])]
    killed = [p for p in halves if time.time() - ages[p] > _ABANDONED_SECONDS]
    if most_bytes is not None:
        totals = itertools.accumulate(sizes[path] for path in whole)
        fitting = sum(total <= most_bytes for total in totals)
        most_files = min(most_files, max(1, fitting))
    for path in (*whole[most_files:], *killed):
        path.unlink(missing_ok=True)
