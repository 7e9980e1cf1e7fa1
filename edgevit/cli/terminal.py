"""What is written to standard output and standard error, all of it: a bundle's names must not steer the terminal.

Labels, names and paths are data of whoever supplies them. Their control characters are shown (``\\x1b``), never sent: a
terminal takes them for links, colours, its title or its clipboard, and some turn the direction of the text around.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TextIO

from edgevit.core.errors import OutputError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""All but the tabulator and the end of a line; with them the marks that change the direction of writing."""

_BEGIN = re.compile("(error|hint|note|warning): ")
_KEPT = re.compile(
    r"""`[^`]*` | (?<!\w)'[^']*'(?!\w) | \bpip\ install\ (-e\ )?"[^"]*"
    | (?<=:\ )edgevit\ (build|finish|bench|run)\ .*""",
    re.VERBOSE,
)
"""What is to be copied: between quotes, or a command from a colon to the end. After :func:`show_controls` no zero byte
is in a text, which so stands for the blanks within."""


class ReaderLeftError(Exception):
    """Whoever read standard output has left, as ``head`` does. Not an ``OSError``, for which click exits itself."""


def show_controls(text: str) -> str:
    """The text with its control characters written as Python writes them."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def write_line(text: str, stream: TextIO | None = None) -> None:
    """A line of a result, on standard output.

    Raises:
        OutputError: It cannot be written, as on a full disk.
        ReaderLeftError: Whoever read it has left.
    """
    _write(show_controls(text) + "\n", stream or sys.stdout)


def write_json(data: object, stream: TextIO | None = None, indent: int | None = 2) -> None:
    """A document, with escapes for what the stream's encoding lacks and for control characters.

    Raises:
        OutputError: As :func:`write_line`.
    """
    stream = stream or sys.stdout
    text = json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False)
    text = _CONTROLS.sub(lambda found: _escape(found[0]), text)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        text = "".join(map(_escape, text))
    _write(text + "\n", stream)


def write_parts(parts: Iterable[RenderableType], stream: TextIO) -> None:
    """Tables and prose of a result, fitted to the terminal; 80 columns where there is none.

    Raises:
        OutputError: As :func:`write_line`.
    """
    console = open_console(stream)
    for part in parts:
        with _name_faults():
            if console.is_terminal:
                console.print(part)
                continue
            with console.capture() as captured:
                console.print(part)
        # rich fills cells with blanks, which only get in the way in a file
        write_line("\n".join(line.rstrip() for line in captured.get().splitlines()), stream)


def write_aside(text: str, stream: TextIO | None = None) -> None:
    """A line on standard error, fitted to the terminal where it is one; where it is full or closed, the work goes on.

    A file or a pipe gets it whole: whoever searches that looks for sentences.
    """
    with contextlib.suppress(OSError, ValueError):
        stream = stream or sys.stderr
        text = show_controls(text)
        stream.write((_fit(text, open_console(stream).width) if stream.isatty() else text) + "\n")
        stream.flush()


def _fit(text: str, width: int) -> str:
    """Lines broken between words. What is to be copied, a path or a command, is not broken, however long it is."""
    rows: list[str] = []
    for line in text.split("\n"):
        kept = _KEPT.sub(lambda found: found[0].replace(" ", "\0"), line)
        begin = _BEGIN.match(line)
        further = " " * (len(begin[0]) if begin else len(line) - len(line.lstrip()) + 2)
        rows += textwrap.wrap(
            kept,
            width,
            subsequent_indent=further,
            expand_tabs=False,
            replace_whitespace=False,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return "\n".join(rows).replace("\0", " ")


def open_console(stream: TextIO) -> Console:
    """A rich console that takes text as it is: no markup, no guesses at what to colour, no control characters."""
    from rich.console import Console
    from rich.text import Text

    class PlainConsole(Console):
        """rich asks it for the text of every string that is printed, also of those in tables."""

        def render_str(self, text: str, **options: object) -> Text:
            return super().render_str(show_controls(text), **options)  # type: ignore[arg-type]

    return PlainConsole(file=stream, highlight=False, markup=False, emoji=False)


def end_output() -> None:
    """Send what is left in standard output's buffer.

    Raises:
        OutputError: It cannot be written.
        ReaderLeftError: Whoever read it has left.
    """
    _write("", sys.stdout)


def give_up_output() -> None:
    """Let nothing more be written to standard output, so that the interpreter's own last attempt does not fail."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(text: str, stream: TextIO) -> None:
    with _name_faults():
        stream.write(text)
        stream.flush()


@contextlib.contextmanager
def _name_faults() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as exc:
        raise ReaderLeftError from exc
    except OSError as exc:
        raise OutputError(
            f"standard output cannot be written: {exc.strerror or exc}", "make room, or send it elsewhere"
        ) from exc


def _escape(char: str) -> str:
    """As JSON does it, two escapes for a character beyond 16 bits."""
    return char if " " <= char <= "~" or char == "\n" else json.dumps(char)[1:-1]
