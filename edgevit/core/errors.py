"""What can go wrong, and what to do about it.

Every error that edgevit raises on purpose carries one sentence of what happened and one of what to do::

    EdgevitError(message, hint)
    ├── TargetError            unknown target, or a key or value of its TOML that is not valid
    ├── RecipeError            the same for a recipe
    ├── MissingPackageError    an optional package is not installed; the hint is the install line
    ├── CheckpointError        unknown layout, missing, unexpected or wrongly shaped tensors, unsafe pickle
    ├── DataError              unreadable images, labels out of range: all offenders, file by file
    ├── ExportError            the module cannot be exported
    ├── PassError              a rewrite failed: which, on which node, after which others
    ├── CalibrationError       too few images, a range that is not finite
    ├── CompileError           backend, op, node, the compiler's own last lines
    ├── DeviceError            a device that is not here, not reachable or not the right one
    ├── OutputError            the output folder cannot be written, is full, or is in use by another build
    └── BundleError            version, checksum, signature, wrong device: both values

The command line prints ``error: message`` and ``hint: hint`` and exits with status 2.

Whoever opens bundles can also tell errors apart by ``code``, one of :data:`CODES`. The runtime in C++ has the same, and
docs/bundle.md says when each is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, get_args

ErrorCode: TypeAlias = Literal[
    "argument",
    "not-a-bundle",
    "manifest",
    "schema",
    "unsafe",
    "damaged",
    "signature",
    "portable",
    "library",
    "device",
    "canary",
    "image",
    "error",
]
CODES: tuple[ErrorCode, ...] = get_args(ErrorCode)

ErrorMaker: TypeAlias = Callable[[str, str], "EdgevitError"]
"""A class of errors, or one with a code of its own: ``functools.partial(BundleError, code="unsafe")``."""

_LISTED = 10
_COUNTED = re.compile(r"  … and (\d+) more.*")


class StoppedByUserError(KeyboardInterrupt):
    """Ctrl-C, where what to do next is known: the sentences of :class:`EdgevitError`, and exit status 130."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


class EdgevitError(Exception):
    """Base of all errors that edgevit raises on purpose.

    Args:
        message: What happened, in one sentence; further lines may list the offenders.
        hint: What to do about it, in one sentence.
        code: What kind of error it is, for programs; by default that of the class.

    Attributes:
        message: With ten offenders of each list.
        whole: With all of them, as ``--json`` gives it.
    """

    code: ErrorCode = "error"

    def __init__(self, message: str, hint: str = "", *, code: ErrorCode | None = None) -> None:
        self.message, self.whole = shorten_lists(message), message
        super().__init__(self.message)
        self.hint = hint
        if code is not None:
            self.code = code

    def __reduce__(self) -> tuple[type[EdgevitError], tuple[str, str], dict[str, Any]]:
        return type(self), (self.whole, self.hint), {"code": self.code}  # from one process to another, whole

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class TargetError(EdgevitError):
    """An unknown target, or a target file with keys or values that are not valid."""


class RecipeError(EdgevitError):
    """An unknown recipe, or a recipe file with keys or values that are not valid."""


class MissingPackageError(EdgevitError):
    """An optional package is needed and not installed."""

    code: ErrorCode = "library"


class CheckpointError(EdgevitError):
    """A checkpoint that cannot be read, or that is not what it says it is."""


class DataError(EdgevitError):
    """Images or labels that cannot be used."""


class ExportError(EdgevitError):
    """A module that cannot be exported to ONNX."""


class PassError(EdgevitError):
    """A graph rewrite that failed."""


class CalibrationError(EdgevitError):
    """Calibration that cannot give usable ranges."""


class CompileError(EdgevitError):
    """An engine's compiler refused the graph."""


class DeviceError(EdgevitError):
    """A device that is not here, not reachable or not the one that is needed."""

    code: ErrorCode = "device"


class OutputError(EdgevitError):
    """An output folder that cannot be written, is full, or is in use by another build."""


class BundleError(EdgevitError):
    """A bundle that is damaged, too new, or made for another device."""


def format_offenders(offenders: Sequence[str]) -> str:
    """Indented list of all offenders, for an error's message, which shows ten; see :func:`shorten_lists`."""
    return "\n".join("  " + offender.replace("\n", "\n    ") for offender in offenders)


def shorten_lists(text: str, more: str = "") -> str:
    """The text with ten entries of each list; the rest is counted, not dropped in silence.

    Args:
        text: Its lists are lines that are indented by two blanks; an entry's further lines are further in.
        more: What stands behind the count, such as where the rest can be had.
    """
    result: list[str] = []
    entries: list[list[str]] = []
    for line in [*text.split("\n"), ""]:
        if entries and line.startswith("   "):
            entries[-1].append(line)
        elif line.startswith("  ") and line.strip():
            entries.append([line])
        else:
            counted = _COUNTED.fullmatch(entries[-1][0]) if entries else None  # of a list that was shortened before
            listed = len(entries) - (counted is not None)
            if listed > _LISTED:
                rest = listed - _LISTED + (int(counted[1]) if counted else 0)
                entries[_LISTED:] = [[f"  … and {rest} more{more}"]]
            result += [*(part for entry in entries for part in entry), line]
            entries = []
    return "\n".join(result[:-1])


def count_things(count: int, one: str, several: str = "") -> str:
    """``1 tensor``, ``2 tensors``; ``several`` where the plural is no ``one`` with an s."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def list_some(names: list[str], limit: int) -> str:
    """The first names in one line; the rest is counted."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def format_last_lines(lines: Sequence[str], count: int = _LISTED) -> str:
    """The end of what a program said, for behind a message, each line on an indented one of its own."""
    last = [line for line in lines if line.strip()][-count:]
    return "".join(f"\n  {line}" for line in last)


def last_line(exc: Exception) -> str:
    """What a library's error says at its end, where most put the cause; the error's kind where it says nothing."""
    lines = str(exc).strip().splitlines()
    return lines[-1].strip() if lines else type(exc).__name__
