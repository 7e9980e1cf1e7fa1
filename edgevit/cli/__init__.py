"""The command line: each command parses, calls one function and prints.

Exit status: 0 done, 1 a budget was missed or a check failed, 2 bad usage or input, 130 interrupted. An error is two
lines on standard error, ``error: what happened`` and ``hint: what to do``; with ``--json`` it is also the document on
standard output.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from edgevit import __version__
from edgevit.cli.output import DEBUG
from edgevit.core.errors import EdgevitError
from edgevit.core.libraries import LIBRARIES

COMMANDS = ("build", "finish", "inspect", "bench", "eval", "run", "check", "report", "targets", "doctor", "demo")
"""In the order of ``--help``; each is a file of this folder with an object ``command``, imported when asked for."""


_EXTRAS = {
    **dict.fromkeys(
        ("torch", "onnx", "onnxscript", "onnx_ir", "safetensors", "h5py", "huggingface_hub", "tomli_w"), "build"
    ),
    **dict.fromkeys(("jinja2", "markupsafe", "matplotlib"), "report"),
    **{name: library.extra for name, library in LIBRARIES.items()},
}


class CommandLine(click.Group):
    """The table above as a click group, with edgevit's errors and exit statuses."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of :data:`COMMANDS`, in their order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, whose module is imported now; ``None`` where there is none."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"edgevit.cli.{cmd_name}").command
        return command

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command, turn its errors into two lines, and exit with its status."""
        arguments = list(sys.argv[1:] if args is None else args) or ["--help"]
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal without these characters still shows the rest
        try:
            status = super().main(arguments, prog_name or "edgevit", complete_var, standalone_mode=False, **extra)
        except click.UsageError as exc:
            command = exc.ctx.command_path if exc.ctx else "edgevit"
            status = _complain(arguments, exc.format_message(), f"see `{command} --help`")
        except click.ClickException as exc:
            status = _complain(arguments, exc.format_message(), "")
        except (click.Abort, KeyboardInterrupt):
            click.echo("error: interrupted; nothing was replaced", err=True)
            status = 130
        except BrokenPipeError:  # whoever read our output has left, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 0
        except EdgevitError as exc:
            if os.environ.get(DEBUG):
                raise
            status = _complain(arguments, exc.message, exc.hint)
        except Exception as exc:
            if os.environ.get(DEBUG):
                raise
            status = _complain(arguments, *_explain(exc))
        sys.exit(status if isinstance(status, int) else 0)


def _explain(exc: Exception) -> tuple[str, str]:
    """Message and hint for an exception that no stage expected."""
    package = exc.name if isinstance(exc, ModuleNotFoundError) and exc.name else ""
    extra = _EXTRAS.get(package.partition(".")[0])
    if extra is not None:
        return f"{package} is not installed", f'pip install "edgevit[{extra}]"'
    text = " ".join(str(exc).split())[:500]
    message = f"unexpected {type(exc).__name__}" + (f": {text}" if text else "")
    return message, f"a defect of edgevit; {DEBUG}=1 in the environment shows where"


def _complain(arguments: list[str], message: str, hint: str) -> int:
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    if "--json" in arguments:
        click.echo(json.dumps({"error": message, "hint": hint}, ensure_ascii=False))
    return 2


@click.group(
    cls=CommandLine,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done, 1 a budget was missed or a check failed, 2 bad usage or input.",
)
@click.version_option(__version__, prog_name="edgevit", message="%(prog)s %(version)s")
def main() -> None:
    """From a trained Vision Transformer to a measured bundle that a device opens.

    \b
      edgevit demo                                      the whole line, on models that ship with the package
      edgevit build CHECKPOINT --target intel-cpu --calibration DATA --validation DATA
      edgevit run BUNDLE photo.jpg
    """
