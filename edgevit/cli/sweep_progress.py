"""How a sweep is followed: a bar on a terminal, a line for every cell that ends elsewhere, JSON lines for programs."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from edgevit.cli.output import Output
from edgevit.cli.sweep_tables import HEADERS, format_figure, shorten_middle
from edgevit.cli.terminal import open_console, write_aside

if TYPE_CHECKING:
    from rich.table import Table

    from edgevit.remote.sweep.result import CellResult
    from edgevit.remote.sweep.run import Listen, State

_TOLD = ("latency_p50_ms", "top1", "kept", "cosine", "size_mb")
"""Figures of a line, where the cell has them."""
_BAR_WIDTH = 16


@contextlib.contextmanager
def follow_sweep(output: Output) -> Iterator[Listen]:
    """What a sweep tells goes to the screen, unless quiet; every cell that ends is a line of JSON, also when quiet."""
    with contextlib.ExitStack() as stack:
        show: Listen | None = None
        if not output.quiet:
            show = stack.enter_context(_draw_bar()) if sys.stderr.isatty() else _write_lines

        def listen(state: State, result: CellResult | None) -> None:
            if result is not None:
                output.event({"event": "cell", "name": result.name, "target": result.target, "passed": result.passed,
                              "error": result.error, "figures": dict(result.figures), "done": state.done,
                              "failed": state.failed, "total": state.total,
                              "left_seconds": state.left_seconds})  # fmt: skip
            if show is not None:
                show(state, result)

        yield listen


def _write_lines(state: State, result: CellResult | None) -> None:
    if result is not None:
        write_aside(describe_cell(state, result))


@contextlib.contextmanager
def _draw_bar() -> Iterator[Listen]:
    from rich.live import Live

    bar = SweepBar()
    with Live(
        console=open_console(sys.stderr),
        get_renderable=bar.draw,
        transient=True,
        refresh_per_second=4,
        redirect_stdout=sys.stdout.isatty(),
    ) as live:

        def listen(state: State, result: CellResult | None) -> None:
            bar.state = state
            if result is not None:
                write_aside(describe_cell(state, result))
            live.refresh()

        yield listen


class SweepBar:
    """What a terminal shows at its end: cells done, what runs, failed ones, and the time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.state: State | None = None
        self._clock, self._started = clock, clock()

    def draw(self) -> Table:
        """The bar in one line, and what runs in another."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table.grid(padding=(0, 2, 0, 0))
        elapsed = format_time(self._clock() - self._started)
        if self.state is None:
            table.add_row("cells", elapsed)
            return table
        state = self.state
        left = "" if state.left_seconds is None else f", {format_time(state.left_seconds)} left"
        counts = f"{state.done} of {state.total}" + (f", {state.failed} failed" if state.failed else "")
        table.add_row("cells", ProgressBar(state.total, state.done, width=_BAR_WIDTH), counts, f"{elapsed}{left}")
        running = Table.grid()
        running.add_row(table)
        running.add_row(describe_running(state))
        return running


def describe_running(state: State) -> str:
    """``3 prepare, 1 measures``."""
    prepare, measure = state.running["prepare"] + state.running["portable"], state.running["build"]
    parts = [(prepare, "prepares", "prepare"), (measure, "measures", "measure")]
    return ", ".join(f"{count} {one if count == 1 else several}" for count, one, several in parts if count)


def describe_cell(state: State, result: CellResult) -> str:
    """What a cell came to, with how far the sweep is: one line."""
    left = (
        "" if state.left_seconds is None or state.done == state.total else f" ({format_time(state.left_seconds)} left)"
    )
    begin = f"{state.done} of {state.total}: {shorten_middle(result.name, 60)}: "
    if result.failed:
        return f"{begin}failed: {result.error.splitlines()[0]}{left}"
    figures = [
        f"{HEADERS[name]} {format_figure(name, result.figures[name])}" for name in _TOLD if name in result.figures
    ]
    return f"{begin}{', '.join(['passed' if result.passed else 'budget missed', *figures])}{left}"


def format_time(seconds: float) -> str:
    """``0:07``, ``12:30``, ``3:04:10``."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
