from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edgevit.cli import main
from edgevit.cli.output import Output, output_options
from edgevit.cli.run import _show_label
from edgevit.cli.tables import make_pairs, make_table
from edgevit.cli.terminal import show_controls, write_aside, write_json
from edgevit.core.errors import BundleError

LINK = "\x1b]8;;http://x\x07click\x1b]8;;\x07"
CLIPBOARD = "\x9d52;c;eA==\x9c"
TURNED = "\u202egpj.exe"
SENT = ("\x1b", "\x07", "\x9d", "\x9c", "\u202e")


@pytest.fixture
def try_command(monkeypatch):
    """Run a function as the command ``targets``, and give what reached both streams."""

    def run(function, *options):
        command = click.command("targets")(output_options(function))
        monkeypatch.setattr("edgevit.cli.CommandLine.get_command", lambda *_: command)
        return CliRunner().invoke(main, ["targets", *options])

    return run


def _print_all(output):
    table = make_table(["image", LINK], right={LINK})
    table.add_row(TURNED, CLIPBOARD)
    output.show(table, make_pairs({"path": LINK}), CLIPBOARD)
    output.prose(f"prose {LINK}", indent=2)
    output.line(f"line {TURNED}")
    output.note(f"note {CLIPBOARD}")
    output.document([LINK, CLIPBOARD, TURNED])


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_control_characters_reach_the_terminal_from_nowhere(try_command, options):
    result = try_command(_print_all, *options)
    assert result.exit_code == 0
    for text in (result.stdout, result.stderr):
        assert not any(char in text for char in SENT)
    assert r"\x9d52;c;eA==\x9c" in result.stderr
    if options:
        assert json.loads(result.stdout) == [LINK, CLIPBOARD, TURNED]
    else:
        assert result.stdout.count(r"\x1b]8;;http://x\x07click") == 3
        assert result.stdout.count(r"\u202egpj.exe") == 2


def test_control_characters_of_an_error_and_of_bad_usage_are_shown(try_command):
    def fail(output):
        raise BundleError(f"first line {LINK}\n  second {TURNED}", CLIPBOARD)

    result = try_command(fail, "--json")
    assert result.exit_code == 2
    assert not any(char in result.output for char in SENT)
    assert r"error: first line \x1b]8" in result.stderr
    assert "\n  second \\u202e" in result.stderr
    assert json.loads(result.stdout) == {
        "error": f"first line {LINK}\n  second {TURNED}",
        "hint": CLIPBOARD,
        "code": "error",
    }
    assert not any(char in CliRunner().invoke(main, ["targets", f"--{LINK}"]).output for char in SENT)


def test_text_lines_and_tabulators_stay():
    text = "Zürich\t东京 🐈\n– ×"
    assert show_controls(text) == text
    assert show_controls("\r\x00\x7f\u2066") == r"\r\x00\x7f\u2066"


@pytest.mark.parametrize(("encoding", "as_it_is"), [("ascii", False), ("latin-1", False), ("utf-8", True)])
def test_json_loses_no_character_under_any_encoding(encoding, as_it_is):
    raw = io.BytesIO()
    data = {"label": "东京 🐈 é"}
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="replace")
    write_json(data, stream)
    assert json.loads(raw.getvalue().decode(encoding)) == data
    assert ("东京" in raw.getvalue().decode(encoding)) is as_it_is


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("options", [("--json",), ()])
def test_full_standard_output_is_one_sentence_and_status_2(options):
    arguments = [sys.executable, "-m", "edgevit", "targets", *options]
    with open("/dev/full", "w") as full:
        done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: standard output cannot be written: No space left on device",
        "hint: make room, or send it elsewhere",
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_full_standard_error_takes_neither_the_result_nor_the_status():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgevit", "run", "nowhere", "nothing.jpg", "--json"],
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert "nowhere" in json.loads(done.stdout)["error"]


def test_note_is_dropped_where_standard_error_is_closed(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    Output().note("nobody hears it")


class Screen(io.StringIO):
    """A terminal of 40 columns."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def show(monkeypatch):
    """The rows in which a text stands on a terminal of 40 columns."""
    monkeypatch.setenv("COLUMNS", "40")

    def write(text):
        screen = Screen()
        write_aside(text, screen)
        return screen.getvalue().splitlines()

    return write


def test_long_lines_on_a_terminal_break_between_words_and_line_up(show):
    error = "error: the bundle's engine does not answer as the model's own where it was judged:"
    listed = "  some.file.bin: missing; the manifest lists it with 5 bytes"
    hint = "hint: copy it again, or build it again"
    assert show(f"{error}\n{listed}\n{hint}") == [
        "error: the bundle's engine does not",
        "       answer as the model's own where",
        "       it was judged:",
        "  some.file.bin: missing; the manifest",
        "    lists it with 5 bytes",
        "hint: copy it again, or build it again",
    ]
    assert show("") == [""]
    assert show("word\ttabulator  blanks") == ["word\ttabulator  blanks"]


@pytest.mark.parametrize(
    "kept",
    [
        "/a/path/that-is-longer/than-the-terminal/is-wide.onnx",
        "`edgevit finish 'my bundle' --out somewhere/else`",
        "'/a path with blanks in quotes/and more of it/x.png'",
        'pip install "edgevit[build] @ git+https://example.org/edgevit@main"',
        "edgevit build ./checkpoint --target intel-cpu --precision int8 --out ./bundle",
    ],
)
def test_what_is_to_be_copied_is_not_broken(show, kept):
    rows = show(f"hint: do this, which is best of all here: {kept}")
    assert rows[:2] == ["hint: do this, which is best of all", "      here:"]
    assert rows[2:] == [f"      {kept}"]


def test_apostrophes_are_no_quotes(show):
    rows = show("hint: " + "the bundle's engine and the model's figures " * 3)
    assert all(len(row) <= 40 for row in rows)
    assert len(rows) > 3


def test_lines_of_a_pipe_stay_whole_and_those_of_a_terminal_do_not(tmp_path):
    """Also the document of --json, on whichever screen the error is shown."""
    import pty

    missing = tmp_path / "nowhere"
    command = [sys.executable, "-m", "edgevit", "verify", str(missing), "--json"]
    screen, end = pty.openpty()
    try:
        env = {**os.environ, "COLUMNS": "50", "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=end, text=True, env=env, check=False)
        shown = os.read(screen, 65536).decode().replace("\r\n", "\n")
    finally:
        os.close(end)
        os.close(screen)
    piped = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == piped.returncode == 2
    assert done.stdout == piped.stdout
    assert len(done.stdout.splitlines()) == 1
    document = json.loads(done.stdout)
    assert piped.stderr == f"error: {document['error']}\nhint: {document['hint']}\n"
    assert shown.replace("\n       ", " ").replace("\n      ", " ") == piped.stderr
    rows = [row.strip() for row in shown.splitlines() if str(missing) not in row]
    assert rows
    assert all(len(row) <= 50 for row in rows)


def test_end_of_a_file_is_not_taken_for_an_interruption(try_command):
    def fail(output):
        raise EOFError("No data left in file")

    result = try_command(fail)
    assert result.exit_code == 2
    assert "interrupted" not in result.stderr
    assert "No data left in file" in result.stderr


@pytest.mark.parametrize(("typed", "said"), [("bulid", "'build'"), ("inspct", "'inspect'")])
def test_misspelt_command_gets_a_suggestion(typed, said):
    result = CliRunner().invoke(main, [typed])
    assert result.exit_code == 2
    assert f"Did you mean {said}?" in result.stderr


def test_capital_v_prints_the_version():
    result = CliRunner().invoke(main, ["-V"])
    assert result.exit_code == 0
    assert result.stdout.startswith("edgevit ")


def test_file_that_cannot_be_read_is_no_defect_of_edgevit(try_command):
    def fail(output):
        raise PermissionError(13, "Permission denied", "/somewhere/locked")

    result = try_command(fail)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: /somewhere/locked: Permission denied\n")
    assert "defect" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_closed_stream_costs_no_traceback(closed: str) -> None:
    command = f'"{sys.executable}" -m edgevit targets {closed}'
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr
    assert result.returncode == (2 if "1>&-" in closed else 0)
    if closed == "1>&-":
        assert result.stderr.splitlines()[0] == "error: standard output is closed"


def test_label_of_several_lines_stays_in_its_row() -> None:
    assert _show_label("two\nlines\tand a tab") == r"two\nlines\tand a tab"
    assert _show_label("") == '""'
