"""release_memory: give back to the system what the process holds no more."""

from __future__ import annotations

import ctypes
import functools
import gc
from collections.abc import Callable


def release_memory() -> None:
    """Collect garbage, and return freed pages to the system where its allocator would keep them.

    A graph's nodes and values refer to each other, so their weights go with the garbage collector alone. glibc keeps
    what was freed below something that is still in use: hundreds of megabytes behind a run of a large module.
    """
    gc.collect()
    trim = _find_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _find_trim() -> Callable[[int], int] | None:
    """glibc's ``malloc_trim(3)``; ``None`` with another C library, which has no such function."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # musl and macOS; Windows takes no None
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    found: Callable[[int], int] = trim
    return found
