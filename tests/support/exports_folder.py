"""Where exported files lie that all processes of a run of the tests share."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

SHARED_EXPORTS = "EDGEVIT_TEST_EXPORTS"
"""The variable of the environment that names the folder; ``tests/conftest.py`` sets it."""


@functools.cache
def find_folder() -> Path:
    named = os.environ.get(SHARED_EXPORTS)
    return Path(named) if named else Path(tempfile.mkdtemp(prefix="edgevit-exports-"))


def export_once(name: str, write: Callable[[Path], object]) -> Path:
    """The file of this name, which ``write`` makes unless this process or another has."""
    path = find_folder() / name
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=find_folder()) as folder:
            write(Path(folder, name))
            Path(folder, name).replace(path)
    return path
