"""Progress on standard error: a bar for each stage on a terminal, a line for each elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from edgevit.core.progress import Progress, ignore_progress

if TYPE_CHECKING:
    from rich.progress import TaskID

LINE_SECONDS = 5.0
"""Without a terminal, a stage under way prints a line no more often than this."""


@contextlib.contextmanager
def draw_progress(stream: TextIO, quiet: bool = False) -> Iterator[Progress]:
    """The callable that stages report to, drawn on ``stream`` while the context lasts."""
    if quiet:
        yield ignore_progress
    elif stream.isatty():
        with _draw_bars(stream) as progress:
            yield progress
    else:
        yield _Lines(stream)


@contextlib.contextmanager
def _draw_bars(stream: TextIO) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<20}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=Console(file=stream), refresh_per_second=8) as bars:

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks or (bars.tasks[tasks[stage]].finished and done < total):
                tasks[stage] = bars.add_task(stage, total=total or None)
            bars.update(tasks[stage], completed=done, total=total or None)

        yield progress


@dataclass
class _Stage:
    started: float
    printed: float
    finished: bool = False


class _Lines:
    """A line now and then, ``accuracy: 200 of 600``, and one at the end of each stage, ``accuracy: 3.1 s``."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._stages: dict[str, _Stage] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = self._clock()
        state = self._stages.get(stage)
        if state is None or (state.finished and done < total):
            state = self._stages[stage] = _Stage(now, now)
            if done < total == 1:  # nothing more will be heard before its end
                self._print(f"{stage} …")
        if done >= total:
            if not state.finished:
                state.finished = True
                self._print(f"{stage}: {now - state.started:.1f} s")
        elif now - state.printed >= LINE_SECONDS:
            state.printed = now
            self._print(f"{stage}: {done} of {total}")

    def _print(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()
