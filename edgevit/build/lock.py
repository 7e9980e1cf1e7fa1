"""One build at a time into one folder.

The lock is a file beside the folder that the operating system frees when its holder ends, however it ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgevit.core.errors import OutputError
from edgevit.core.file_lock import free_lock, read_holder, take_lock


@dataclass(frozen=True)
class OutputLock:
    """The lock that this process holds on an output folder."""

    path: Path


@contextmanager
def lock_output(out: str | os.PathLike[str]) -> Iterator[OutputLock]:
    """Hold the lock on an output folder.

    Raises:
        OutputError: Another build holds it; its process is named. Or the lock file cannot be written.
    """
    folder = Path(out).expanduser().resolve()
    path = folder.parent / f".{folder.name}.edgevit-lock"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        handle = take_lock(path, f"process {os.getpid()}")
    except OSError as exc:
        raise OutputError(
            f"{folder} cannot be written: {exc.strerror or exc}", "choose an --out that you may write to"
        ) from exc
    if handle is None:
        raise OutputError(
            f"another build ({read_holder(path)}) is writing {folder}", "wait for it to end, or choose another --out"
        )
    try:
        yield OutputLock(path)
    finally:
        free_lock(path, handle)
