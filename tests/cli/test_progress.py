from __future__ import annotations

import io

from edgevit.cli.progress import LINE_SECONDS, _Lines, draw_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_lines_say_start_and_end_of_each_stage():
    stream, clock = io.StringIO(), Clock()
    progress = _Lines(stream, clock)
    progress("export", 0, 1)
    clock.now = 2.0
    progress("export", 1, 1)
    progress("compile", 1, 1)
    assert stream.getvalue().splitlines() == ["export …", "export: 2.0 s", "compile: 0.0 s"]


def test_lines_of_a_long_stage_come_now_and_then():
    stream, clock = io.StringIO(), Clock()
    progress = _Lines(stream, clock)
    for done in range(100):
        clock.now = done * LINE_SECONDS / 10
        progress("accuracy", done, 100)
    progress("accuracy", 100, 100)
    progress("accuracy", 100, 100)
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["accuracy: 10 of 100", "accuracy: 20 of 100"]
    assert len(lines) == 9 + 1


def test_lines_of_a_stage_that_runs_again_start_again():
    stream = io.StringIO()
    progress = _Lines(stream, Clock())
    for _ in range(2):
        progress("latency", 0, 2)
        progress("latency", 2, 2)
    assert stream.getvalue().splitlines() == ["latency: 0.0 s"] * 2


def test_bars_are_drawn_on_a_terminal():
    stream = Terminal()
    with draw_progress(stream) as progress:
        progress("[export]", 0, 4)
        progress("[export]", 4, 4)
        progress("unknown end", 1, 0)
    assert "[export]" in stream.getvalue()
    assert "4/4" in stream.getvalue()


def test_quiet_draws_nothing_even_on_a_terminal():
    stream = Terminal()
    with draw_progress(stream, quiet=True) as progress:
        progress("export", 0, 1)
    assert stream.getvalue() == ""
