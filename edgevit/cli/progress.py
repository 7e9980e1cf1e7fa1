"""Progress on standard error: what is running and the whole on a terminal, a line now and then elsewhere.

A terminal shows two lines at its end, whatever its height; stages that are done and notes scroll away above them.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from edgevit.cli.terminal import open_console, write_aside
from edgevit.core.errors import count_things
from edgevit.core.progress import WHOLE, Progress, ignore_progress

if TYPE_CHECKING:
    from rich.table import Table

LINE_SECONDS = 5.0
"""Without a terminal, a stage under way prints a line no more often than this."""
_NAME_WIDTH, _BAR_WIDTH = 28, 16


@contextlib.contextmanager
def draw_progress(stream: TextIO, quiet: bool = False) -> Iterator[Progress]:
    """The callable that stages report to, drawn on ``stream`` while the context lasts."""
    if quiet:
        yield ignore_progress
    elif stream.isatty():
        with _draw_bars(stream) as progress:
            yield progress
    else:
        yield _Lines(stream).report


@contextlib.contextmanager
def _draw_bars(stream: TextIO) -> Iterator[Progress]:
    from rich.live import Live

    bars = _Bars(stream)
    # standard error is passed through it, so that notes come above; standard output may be a file
    with Live(
        console=open_console(stream),
        get_renderable=bars.draw,
        transient=True,
        refresh_per_second=4,
        redirect_stdout=sys.stdout.isatty(),
    ) as live:

        def progress(stage: str, done: int, total: int) -> None:
            if bars(stage, done, total):
                live.refresh()  # what it begins with may leave the drawing thread no time

        bars.say = live.console.print
        yield progress


@dataclass
class _Stage:
    started: float
    printed: float
    done: int = 0
    total: int = 0
    finished: bool = False


class _Lines:
    """A line now and then, ``accuracy: 200 of 600``, and one at the end of each stage, ``accuracy: 3.1 s``."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.say: Callable[[str], None] = lambda text: write_aside(text, stream)
        self._clock = clock
        self._parts: tuple[int, int] | None = None  # of the whole: done, and in all
        self._stages: dict[str, _Stage] = {}

    def report(self, stage: str, done: int, total: int) -> None:
        """A :class:`Progress`."""
        self(stage, done, total)

    def __call__(self, stage: str, done: int, total: int) -> bool:
        """Whether the stage begins."""
        now = self._clock()
        if stage == WHOLE:
            self._parts = done, total
            return False
        state = self._stages.get(stage)
        begins = state is None or (state.finished and done < total)
        if state is None or begins:
            state = self._stages[stage] = _Stage(now, now)
        state.done, state.total = done, total
        if done < total:
            self._tell(stage, state, begins, now)
        elif not state.finished:
            state.finished = True
            self.say(f"{stage}: {now - state.started:.1f} s")
        return begins

    def _tell(self, stage: str, state: _Stage, begins: bool, now: float) -> None:
        """That a stage is under way."""
        if begins and state.done < state.total == 1:  # nothing more will be heard before its end
            self.say(f"{stage} …")
        elif now - state.printed >= LINE_SECONDS:
            state.printed = now
            self.say(f"{stage}: {state.done} of {state.total}")


class _Bars(_Lines):
    """A line for the stage that is running, and one for the whole."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream, clock)
        self._started = clock()
        self._running = ""

    def _tell(self, stage: str, state: _Stage, begins: bool, now: float) -> None:
        self._running = stage

    def draw(self) -> Table:
        """What a terminal shows at its end."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        now = self._clock()
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=_NAME_WIDTH, no_wrap=True, overflow="ellipsis")
        stages = dict(self._stages)
        state = stages.get(self._running)
        if state is not None and not state.finished:
            elapsed = now - state.started
            left = elapsed / state.done * (state.total - state.done) if state.done else None
            bar = ProgressBar(state.total, state.done, width=_BAR_WIDTH, pulse=state.total == 1)
            count = "" if state.total == 1 else f"{state.done} of {state.total}"
            took = _format_time(elapsed) + (f", {_format_time(left)} left" if left is not None else "")
            table.add_row(self._running, bar, count, took)
        ended = sum(state.finished for state in stages.values())
        # Their shares of the time differ tenfold from model to model: what they will take nobody knows.
        whole = "" if self._parts is None else ProgressBar(self._parts[1], self._parts[0], width=_BAR_WIDTH)
        parts = f"{self._parts[0]} of {self._parts[1]} parts" if self._parts else f"{count_things(ended, 'stage')} done"
        table.add_row(WHOLE, whole, parts, _format_time(now - self._started))
        return table


def _format_time(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
