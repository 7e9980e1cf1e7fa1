"""release_memory: give back to the system what the process holds no more; collect_new_alone: at less cost."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
from collections.abc import Callable, Iterator


def release_memory() -> None:
    """Collect garbage, and return freed pages to the system where its allocator would keep them.

    A graph's nodes and values refer to each other, so their weights go only with the garbage collector. glibc keeps
    what was freed below something that is still in use: hundreds of megabytes behind a run of a large module.
    """
    gc.collect()
    trim = _find_trim()
    if trim is not None:
        trim(0)


_within = False
"""Whether what is frozen is ours: Python has no other way to tell than to count half a million objects."""


@contextlib.contextmanager
def collect_new_alone() -> Iterator[None]:
    """Within it, collections look at nothing that was there before.

    Half a million objects of torch and its like stay for ever, and a collection takes a third of a second to look at
    them: longer than it takes to quantise a small segment. It is for a program of edgevit's own: what an app holds is
    the app's to freeze. Does nothing where somebody has frozen objects already, since Python knows only how to thaw all
    of them.
    """
    global _within
    if _within or gc.get_freeze_count():
        yield
        return
    gc.collect()
    gc.freeze()
    _within = True
    try:
        yield
    finally:
        _within = False
        gc.unfreeze()


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
