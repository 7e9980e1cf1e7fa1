"""What every command shares: ``--json`` and ``--quiet``, notes, and where results, notes and progress go."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

import click

from edgevit.cli.terminal import open_console, show_controls, write_aside, write_json, write_line, write_parts

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgevit.core.progress import Progress

DEBUG = "EDGEVIT_DEBUG"
"""Set in the environment, it lets tracebacks and the libraries' warnings through."""

WHOLE_LISTS = " (--json lists all)"
"""Behind the count of what a shortened list leaves out."""
_TALKATIVE = ("torch", "onnxscript", "onnx_ir", "openvino", "PIL", "matplotlib")


@dataclass(frozen=True)
class Output:
    """Results go to standard output, everything else to standard error.

    Attributes:
        as_json: One JSON document on standard output and nothing else there.
        quiet: No progress and no notes; only results and errors.
    """

    as_json: bool = False
    quiet: bool = False
    _stream: TextIO = field(default_factory=lambda: sys.stdout)  # kept, because --json redirects sys.stdout

    def note(self, text: str) -> None:
        """A line on standard error, unless quiet."""
        if not self.quiet:
            write_aside(text)

    def listen_to(self, host: str) -> Callable[[str], None]:
        """For what another machine says: its lines as notes, with its name before them."""
        return lambda line: self.note(f"{host}: {line}")

    def line(self, text: str = "") -> None:
        """A line of the result, never wrapped, so that paths and commands can be copied."""
        if not self.as_json:
            write_line(text)

    @property
    def width(self) -> int:
        """Columns that tables and sentences of the result are fitted to."""
        return open_console(self._stream).width

    def prose(self, text: str, indent: int = 0) -> None:
        """A sentence of the result, fitted to the terminal as tables are, its further lines further in."""
        begin, go_on = " " * indent, " " * (indent + 2)
        for row in textwrap.wrap(
            show_controls(text), self.width, initial_indent=begin, subsequent_indent=go_on, break_on_hyphens=False
        ):
            self.line(row)

    def show(self, *parts: RenderableType) -> None:
        """Tables and prose of the result, fitted to the terminal; 80 columns where there is none."""
        if not self.as_json:
            write_parts(parts, self._stream)

    def document(self, data: object) -> None:
        """The result as JSON, where ``--json`` asks for it."""
        if self.as_json:
            write_json(data, self._stream)

    def event(self, data: object) -> None:
        """A line of JSON, of those that go on while a command runs, where ``--json`` asks for it."""
        if self.as_json:
            write_json(data, self._stream, indent=None)

    def progress(self) -> contextlib.AbstractContextManager[Progress]:
        """Bars on a terminal, plain lines elsewhere, nothing when quiet."""
        from edgevit.cli.progress import draw_progress

        return draw_progress(sys.stderr, self.quiet)


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json`` and ``--quiet``; the command gets them as its first argument, an :class:`Output`."""

    @click.option("--quiet", "-q", is_flag=True, help="No progress and no notes.")
    @click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")
    @functools.wraps(command)
    def run(*args: Any, as_json: bool, quiet: bool, **options: Any) -> Any:
        output = Output(as_json, quiet)
        with contextlib.ExitStack() as stack:
            stack.enter_context(quieten_libraries())
            if as_json:  # whatever a library prints must not spoil the document
                stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            return command(output, *args, **options)

    return run


@contextlib.contextmanager
def quieten_libraries() -> Iterator[None]:
    """Keep the libraries' warnings off the screen: they are addressed to those who write programs with them."""
    if os.environ.get(DEBUG):
        yield
        return
    levels = {name: logging.getLogger(name).level for name in _TALKATIVE}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
