"""The command line: each command parses, calls one function and prints.

Exit status: 0 done, 1 a budget was missed or a check failed, 2 bad usage or input, 130 interrupted. An error is two
lines on standard error, ``error: what happened`` and ``hint: what to do``; with ``--json`` it is also the document on
standard output, where no list is shortened.
"""

from __future__ import annotations

import difflib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from edgevit import __version__
from edgevit.cli.output import DEBUG, WHOLE_LISTS
from edgevit.cli.terminal import ReaderLeftError, end_output, give_up_output, write_aside, write_json
from edgevit.core.errors import EdgevitError, ErrorCode, OutputError, StoppedByUserError, shorten_lists
from edgevit.core.libraries import LIBRARIES
from edgevit.core.packages import install_line

COMMANDS = (
    *("build", "finish", "inspect", "bench", "eval", "run", "check", "report"),
    *("sweep", "rollout"),
    "new-app",
    *("pack", "unpack", "verify", "sign", "keygen"),
    *("targets", "doctor", "demo"),
)
"""In the order of ``--help``; each is a file of this folder (``new_app.py``) with an object ``command``, imported when
asked for."""


_EXTRAS = {
    **dict.fromkeys(
        ("torch", "onnx", "onnxscript", "onnx_ir", "safetensors", "h5py", "huggingface_hub", "tomli_w"), "build"
    ),
    **dict.fromkeys(("jinja2", "markupsafe", "matplotlib"), "report"),
    "cryptography": "signing",
    "pycocotools": "coco",
    **dict.fromkeys(("ray", "pyarrow", "fsspec"), "sweep"),
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
        command: click.Command = importlib.import_module(f"edgevit.cli.{cmd_name.replace('-', '_')}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names; of one that is misspelt the closest is named."""
        close = difflib.get_close_matches(args[0], COMMANDS, n=1)
        if close and args[0] not in COMMANDS:
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{close[0]}'?")
        return super().resolve_command(ctx, args)

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
        closed = sys.stdout is None  # as `>&-` leaves it
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:
                setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the process ends
        if closed:
            write_aside("error: standard output is closed\nhint: send it to a file, or to /dev/null")
            sys.exit(2)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal without these characters still shows the rest
        try:
            status = super().main(arguments, prog_name or "edgevit", complete_var, standalone_mode=False, **extra)
            end_output()
        except click.UsageError as exc:
            command = exc.ctx.command_path if exc.ctx else "edgevit"
            status = _complain(arguments, exc.format_message(), f"see `{command} --help`", "argument")
        except click.ClickException as exc:
            status = _complain(arguments, exc.format_message(), "")
        except (click.Abort, KeyboardInterrupt) as exc:
            if isinstance(exc.__cause__, EOFError):  # click takes every one for the end of what a user types
                status = _complain(arguments, *_explain(exc.__cause__))
            else:
                told = exc.__cause__  # click has an Abort of its own for it
                if not isinstance(told, StoppedByUserError):
                    told = StoppedByUserError("interrupted; nothing was replaced", "")
                _complain(arguments, told.message, told.hint)
                status = 130
        except ReaderLeftError:
            give_up_output()
            status = 0
        except EdgevitError as exc:
            if os.environ.get(DEBUG):
                raise
            status = _complain(arguments, exc.whole, exc.hint, exc.code)
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
        return f"{package} is not installed", install_line(extra)
    if isinstance(exc, OSError) and exc.filename is not None:
        return f"{exc.filename}: {exc.strerror or exc}", "check the path, its permissions and the disk"
    text = " ".join(str(exc).split())[:500]
    message = f"unexpected {type(exc).__name__}" + (f": {text}" if text else "")
    return message, f"a defect of edgevit; {DEBUG}=1 in the environment shows where"


def _complain(arguments: list[str], message: str, hint: str, code: ErrorCode = "error") -> int:
    write_aside(f"error: {shorten_lists(message, '' if '--json' in arguments else WHOLE_LISTS)}")
    if hint:
        write_aside(f"hint: {hint}")
    try:
        if "--json" in arguments:
            write_json({"error": message, "hint": hint, "code": code}, indent=None)
        end_output()
    except (ReaderLeftError, OutputError):  # that it cannot be written may be the very error
        give_up_output()
    return 2


@click.group(
    cls=CommandLine,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done, 1 a budget was missed or a check failed, 2 bad usage or input.",
)
@click.version_option(__version__, "--version", "-V", prog_name="edgevit", message="%(prog)s %(version)s")
def main() -> None:
    """From a trained Vision Transformer to a measured bundle that a device opens.

    \b
      edgevit demo               the whole line, on models of the package's own
      edgevit build CHECKPOINT --target intel-cpu \\
          --calibration DATA --validation DATA
      edgevit run BUNDLE photo.jpg
    """
