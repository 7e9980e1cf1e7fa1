"""make_session_folder: where a Ray of this machine's own keeps logs and sockets, for as long as it runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgevit.build.lock import lock_output
from edgevit.core.errors import OutputError

PREFIX = "edgevit-ray-"
_LONGEST = 30
"""Of the folder in which it lies: the names of Ray's sockets are 75 characters, and the system takes 107."""


@contextlib.contextmanager
def make_session_folder() -> Iterator[str]:
    """A folder that is gone after the block; those of processes that were killed are removed now."""
    root = Path(tempfile.gettempdir())
    if len(str(root)) > _LONGEST and Path("/tmp").is_dir():
        root = Path("/tmp")
    remove_abandoned(root)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
    try:
        with lock_output(folder):
            yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(root: Path) -> None:
    """Remove this user's folders of Rays whose process has ended without removing them."""
    for folder in root.glob(f"{PREFIX}*"):
        with contextlib.suppress(OutputError, OSError):
            if folder.is_symlink() or (hasattr(os, "getuid") and folder.stat().st_uid != os.getuid()):
                continue
            with lock_output(folder):  # held as long as its process lives
                shutil.rmtree(folder, ignore_errors=True)
