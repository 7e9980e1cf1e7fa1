"""A limit on a process's memory that the kernel enforces: a control group of its own, of version 1 or 2.

What counts is what the group's processes touch first: their own pages and those of the files that they read or map. The
system takes back pages of files where they do not fit; where the rest does not, it kills a process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


@contextmanager
def limit_memory(limit_bytes: int) -> Iterator[Callable[[], None]]:
    """A control group with this limit, without swap.

    Yields:
        What a child process calls before it starts its program, to enter the group.

    Raises:
        OSError: Control groups cannot be made here; it takes root, and a system that has them.
    """
    old = (_ROOT / "memory").is_dir()
    group = (_ROOT / "memory" if old else _ROOT) / f"edgevit-bench-{os.getpid()}"
    group.mkdir()
    try:
        if old:
            (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
            with suppress(OSError):  # a kernel that does not count swap
                (group / "memory.memsw.limit_in_bytes").write_text(str(limit_bytes))
        else:
            (group / "memory.max").write_text(str(limit_bytes))
            (group / "memory.swap.max").write_text("0")

        def enter() -> None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

        yield enter
    finally:
        for _ in range(100):  # a killed process leaves its group a moment later
            with suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)
