"""import_library: an engine library's package, whose absence is one error with the line that installs it."""

from __future__ import annotations

import importlib
import sys
from threading import get_ident
from typing import Any

from edgevit.core.errors import MissingPackageError
from edgevit.core.libraries import LIBRARIES
from edgevit.core.packages import install_line

_CONVERTER = "openvino.tools.ovc"


def import_library(name: str, advice: str = "") -> Any:
    """The package of that name in :data:`edgevit.core.libraries.LIBRARIES`.

    ``advice`` is what to try before installing it.

    Raises:
        MissingPackageError: It is not installed, or does not load.
    """
    try:
        if name == "openvino" and name not in sys.modules:
            return _import_openvino()
        return importlib.import_module(name)
    except ImportError as exc:
        reason = "is not installed" if exc.name == name else f"cannot be imported: {exc}"
        hint = f"{advice}{install_line(LIBRARIES[name].extra)}"
        raise MissingPackageError(f"{name} {reason}", hint) from exc


class _WithoutConverter:
    """Finds nothing, and keeps one thread from importing OpenVINO's converter of models."""

    def __init__(self) -> None:
        self._thread = get_ident()

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == _CONVERTER and get_ident() == self._thread:
            raise ModuleNotFoundError(f"{name} is imported when it is asked for", name=name)


def _import_openvino() -> Any:
    """OpenVINO without its converter, half of the time that its import takes: it brings telemetry, and ``~/intel``.

    OpenVINO does without it where it is not there. ``openvino.convert_model`` is imported when it is first used.
    """
    finder = _WithoutConverter()
    sys.meta_path.insert(0, finder)
    try:
        openvino = importlib.import_module("openvino")
    finally:
        sys.meta_path.remove(finder)
    if "convert_model" not in vars(openvino) and "__getattr__" not in vars(openvino):
        vars(openvino)["__getattr__"] = _find_converter
    return openvino


def _find_converter(name: str) -> Any:
    """``openvino.__getattr__``."""
    if name != "convert_model":
        raise AttributeError(f"module 'openvino' has no attribute {name!r}", name=name)
    return importlib.import_module(_CONVERTER).convert_model
