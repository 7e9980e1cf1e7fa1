"""What a caller of the public functions may give: a wrong argument is an error with a hint, never taken for another.

A word where a switch is expected would otherwise count as on, and ``None`` as off.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgevit.core.errors import EdgevitError


def read_path(value: object, name: str) -> Path:
    """A path that the caller gave.

    Raises:
        EdgevitError: It is none; with the code ``argument``.
    """
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str):
        raise _refuse(name, value, "a path", "give a str or a pathlib.Path")
    return Path(path)


def check_switch(value: object, name: str) -> None:
    """Refuse what is neither true nor false.

    Raises:
        EdgevitError: With the code ``argument``.
    """
    if not isinstance(value, bool | np.bool_):
        raise _refuse(name, value, "true or false", "give True or False")


def check_choice(value: object, name: str, choices: Sequence[str]) -> None:
    """Refuse what is none of some words.

    Raises:
        EdgevitError: With the code ``argument``.
    """
    if not isinstance(value, str) or value not in choices:
        raise _refuse(name, value, f"one of {', '.join(choices)}", f"give {name}={choices[0]!r}, or leave it out")


def _refuse(name: str, value: object, wanted: str, hint: str) -> EdgevitError:
    shown = " ".join(repr(value).split())  # of an array, several lines
    return EdgevitError(
        f"{name} = {shown if len(shown) <= 80 else f'{shown[:80]} …'} is not {wanted}", hint, code="argument"
    )
