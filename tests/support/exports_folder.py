"""Where exported files lie that all processes of a run of the tests share."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

SHARED_EXPORTS = "EDGEVIT_TEST_EXPORTS"
"""The variable of the environment that names the folder; ``tests/conftest.py`` sets it."""


_MADE_BY = ("exports_folder.py", "foreign_exports.py", "reference.py")
_PACKAGES = ("torch", "torchvision", "timm", "transformers", "onnx", "onnxscript", "onnx_ir", "numpy")


def name_exports() -> str:
    """A folder's name that is another one where other code, or another version of a package, exports the files."""
    made_by = [hashlib.sha256(Path(__file__).with_name(name).read_bytes()).hexdigest() for name in _MADE_BY]
    versions = [sys.version, *(f"{name} {metadata.version(name)}" for name in _PACKAGES)]
    return hashlib.sha256("\n".join([*made_by, *versions]).encode()).hexdigest()[:16]


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
