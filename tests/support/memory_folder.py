"""make_memory_folder: where a run of all tests writes its gigabytes, in memory where there is enough of it.

On a disk a file costs several times what it costs in memory; with ext4 without a journal, as virtual machines have it,
ten times so where other tests have just removed theirs.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
NEEDED_BYTES = 16 << 30
"""A run writes 5 GB, and each of its processes holds some too."""
TESTS = "tests"
"""In that folder, pytest's own; what else lies there are temporary files."""
_NAME = "ev"  # short: Ray adds most of the 107 characters that the name of a socket may have


def make_memory_folder(base: Path = SHARED_MEMORY) -> Path | None:
    """A new folder of this process's, where one is wise; those that processes left which are gone are removed."""
    if not _is_usable(base):
        return None
    for left in base.glob(f"{_NAME}-[0-9]*"):
        number = left.name.removeprefix(f"{_NAME}-")
        ours = number.isdigit() and (left / TESTS).is_dir() and left.stat().st_uid == os.getuid()
        if ours and (int(number) == os.getpid() or not Path("/proc", number).exists()):
            shutil.rmtree(left, ignore_errors=True)
    folder = base / f"{_NAME}-{os.getpid()}"
    folder.mkdir(mode=0o700)
    return folder


def _is_usable(base: Path) -> bool:
    """Whether programs may lie there, and both the folder and the memory have room."""
    try:
        system = os.statvfs(base)
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return False
    available = next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), 0)
    free = system.f_bavail * system.f_frsize
    return min(free, available) >= NEEDED_BYTES and not system.f_flag & os.ST_NOEXEC and os.access(base, os.W_OK)
