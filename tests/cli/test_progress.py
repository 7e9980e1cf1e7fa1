from __future__ import annotations

import io
import sys

from edgevit.cli.output import Output
from edgevit.cli.progress import LINE_SECONDS, _Bars, _Lines, draw_progress
from edgevit.cli.terminal import open_console


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


def test_terminal_shows_what_runs_and_the_whole_in_two_lines_however_many_stages_there_were():
    clock = Clock()
    bars = _Bars(Terminal(), clock)
    for number in range(30):
        bars(f"stage {number}", 0, 2)
        bars(f"stage {number}", 2, 2)
    bars("a stage with a name longer than its column", 0, 4)
    clock.now = 60.0
    bars("a stage with a name longer than its column", 1, 4)
    screen = io.StringIO()
    open_console(screen).print(bars.draw())
    running, whole = (line.rstrip() for line in screen.getvalue().splitlines())
    assert max(len(running), len(whole)) <= 80
    assert running.startswith("a stage with a name longer …")
    assert running.split()[-6:] == ["1", "of", "4", "1:00,", "3:00", "left"]
    assert whole.split() == ["in", "all", "30", "stages", "done", "1:00"]


def test_whole_is_told_in_parts_where_they_are_planned_and_is_no_stage():
    clock = Clock()
    bars, stream = _Bars(Terminal(), clock), io.StringIO()
    bars("in all", 3, 7)
    bars("calibration int8-bf16, AVX512", 0, 10000)
    clock.now = 600.0
    bars("calibration int8-bf16, AVX512", 5000, 10000)
    screen = io.StringIO()
    open_console(screen).print(bars.draw())
    running, whole = (line.rstrip() for line in screen.getvalue().splitlines())
    assert max(len(running), len(whole)) <= 80
    assert whole.startswith("in all ")
    assert whole.split()[-5:] == ["3", "of", "7", "parts", "10:00"]
    lines = _Lines(stream, clock)
    lines("in all", 7, 7)
    assert stream.getvalue() == ""


def test_notes_and_finished_stages_stand_above_the_two_lines(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with draw_progress(stream) as progress:
        progress("[export]", 0, 4)
        Output().note("a note while bars are drawn")
        progress("[export]", 4, 4)
        progress("unknown end", 1, 0)
    text = stream.getvalue()
    assert text.index("a note while bars are drawn\n") < text.index("[export]: 0.0 s\n") < text.rindex("in all")


def test_control_characters_of_a_stage_are_shown_in_both_forms():
    for stream in (Terminal(), io.StringIO()):
        with draw_progress(stream) as progress:
            progress("send \x1b]52;c;eA==\x07", 0, 1)
            progress("send \x1b]52;c;eA==\x07", 1, 1)
        assert "\x1b]52" not in stream.getvalue()
        assert r"\x1b]52;c;eA==\x07" in stream.getvalue()


def test_quiet_draws_nothing_even_on_a_terminal():
    stream = Terminal()
    with draw_progress(stream, quiet=True) as progress:
        progress("export", 0, 1)
    assert stream.getvalue() == ""
