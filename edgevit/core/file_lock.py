"""Locks that are files: one process holds one, and the operating system frees it however its holder ends.

Only the holder removes the file, so that a name never stands for two locks.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path


def take_lock(path: Path, holder: str, *, make: bool = True) -> int | None:
    """An open, locked file, for :func:`free_lock`; ``None`` where another holder has it.

    Args:
        path: Of the file.
        holder: Who holds it from now on, for :func:`read_holder`.
        make: Whether the file is made where it is not there.

    Raises:
        OSError: It cannot be written, or its file system has no locks.
    """
    while True:
        # not through a link: what it leads to would be emptied
        handle = os.open(path, os.O_RDWR | (os.O_CREAT if make else 0) | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            if not _try_lock(handle):
                os.close(handle)
                return None
            # the last holder may have deleted the file between open and lock: then this lock guards nothing
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    os.ftruncate(handle, 0)
                    os.write(handle, holder.encode())
                    return handle
        except BaseException as exc:
            os.close(handle)
            if isinstance(exc, OSError) and exc.errno == errno.ESTALE:  # so does NFS, from another machine
                continue
            raise
        os.close(handle)


def free_lock(path: Path, handle: int) -> None:
    """Give up what :func:`take_lock` gave, and remove its file."""
    with suppress(OSError):  # Windows deletes no open file; a lock file without a holder does no harm
        path.unlink()
    os.close(handle)


def read_holder(path: Path) -> str:
    """Who holds the lock, as it named itself."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:100] or "an unknown process"
    except OSError:
        return "an unknown process"


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
