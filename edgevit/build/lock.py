"""One build at a time into one folder.

The lock is a file beside the folder that the operating system frees when its holder ends, however it ends.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgevit.core.errors import OutputError


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
        handle = _acquire(path)
    except OSError as exc:
        raise OutputError(
            f"{folder} cannot be written: {exc.strerror or exc}", "choose an --out that you may write to"
        ) from exc
    if handle is None:
        raise OutputError(
            f"another build ({_read_holder(path)}) is writing {folder}", "wait for it to end, or choose another --out"
        )
    try:
        yield OutputLock(path)
    finally:
        with suppress(OSError):  # Windows deletes no open file; a lock file without a holder does no harm
            path.unlink()
        os.close(handle)


def _acquire(path: Path) -> int | None:
    """An open, locked file; ``None`` where another process has it."""
    while True:
        # not through a link: what it leads to would be emptied
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            if not _try_lock(handle):
                os.close(handle)
                return None
            # the last holder may have deleted the file between open and lock: then this lock guards nothing
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    os.ftruncate(handle, 0)
                    os.write(handle, f"process {os.getpid()}".encode())
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _try_lock(handle: int) -> bool:
    if sys.platform == "win32":
        import msvcrt

        try:
            # far behind the text, so that others can read who holds the lock
            os.lseek(handle, 1 << 20, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        except PermissionError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")[:100] or "of an unknown process"
    except OSError:
        return "of an unknown process"
