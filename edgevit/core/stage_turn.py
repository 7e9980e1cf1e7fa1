"""take_turn: one build makes a stage, and others that want the same one wait for it.

The lock is a file beside the stage. Builds on other machines take their turns too, where the cache lies on a file
system that has locks between machines; where it has none, each build makes the stage, and the faster one wins.

Builds that wait for one another would wait for ever. None does: a stage that runs inside another is waited for only
where its place in the table of stages is later, so that whoever has the latest of those that are waited for goes on.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgevit.core.file_lock import free_lock, read_holder, take_lock

OUTSIDE = -1
"""The place of what runs inside no stage: before all."""

_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.05, 1.0
_within = threading.local()


def find_place() -> int:
    """The latest place of the stages that this thread is making."""
    return max(getattr(_within, "places", ()), default=OUTSIDE)


@contextmanager
def take_turn(
    path: Path, place: int, *, inside: int, is_made: Callable[[], bool], tell: Callable[[str], None]
) -> Iterator[None]:
    """Be the only one that makes a stage, or find that another has made it meanwhile.

    It is made without a lock where the file system has none, and where waiting could last for ever.

    Args:
        path: Of the lock's file, in a folder that is there.
        place: Of the stage in the table of stages.
        inside: The latest place of the stages around it, as :func:`find_place` gives it.
        is_made: Whether another has made it: then nobody waits for the lock any more.
        tell: Told who makes it, once, when it is waited for.
    """
    handle = _wait(path, is_made, tell) if place > inside else _try(path)[0]
    places: list[int] = getattr(_within, "places", [])
    _within.places = [*places, place]
    try:
        yield
    finally:
        _within.places = places
        if handle is not None:
            free_lock(path, handle)


def _wait(path: Path, is_made: Callable[[], bool], tell: Callable[[str], None]) -> int | None:
    pause, told = _SHORTEST_SECONDS, False
    while True:
        handle, wait = _try(path)
        if not wait or is_made():
            return handle
        if not told:
            tell(read_holder(path))
            told = True
        time.sleep(pause)
        pause = min(_LONGEST_SECONDS, 1.5 * pause)


def _try(path: Path) -> tuple[int | None, bool]:
    """The lock, if it was free, and whether somebody has it."""
    try:
        handle = take_lock(path, f"process {os.getpid()} on {platform.node() or 'an unnamed machine'}")
    except OSError:  # no locks here; or nothing can be written, which the stage's own files will say
        with suppress(OSError):
            if not path.is_symlink():
                path.unlink()
        return None, False
    return handle, handle is None
