"""How a sweep is followed: a line or a bar for people, a JSON line for programs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgevit.cli.output import Output

if TYPE_CHECKING:
    from edgevit.remote.sweep.result import CellResult
    from edgevit.remote.sweep.run import Listen, State


@contextlib.contextmanager
def follow_sweep(output: Output) -> Iterator[Listen]:
    """What a sweep tells goes to the progress bar; every cell that ends is a note, or a line of JSON."""
    with output.progress() as progress:

        def listen(state: State, result: CellResult | None) -> None:
            progress(_describe(state), state.done, state.total)
            if result is None:
                return
            output.event({"event": "cell", "name": result.name, "error": result.error, "passed": result.passed,
                          "done": state.done, "failed": state.failed, "total": state.total,
                          "left_seconds": state.left_seconds})  # fmt: skip
            if result.failed:
                output.note(f"{result.name}: {result.error.splitlines()[0]}")

        yield listen


def _describe(state: State) -> str:
    return "cells"
