"""Engine compilers, one library a file.

A backend is a module with these functions, or an object in one (after a colon) where two libraries share it; a new one
is a file here, one in ``runtime/`` and a line in each table::

    check(model_path, target) -> None            refuse early: package, device, model; raises
    compile(model_path, target, precision, directory, settings, *, model_info, batch) -> Engine
    available() -> tuple[str, ...]               devices that the library finds on this machine
    versions() -> dict[str, str]                 of the library, recorded with every engine

``check`` and ``available`` raise :class:`~edgevit.core.errors.MissingPackageError` where the library is not installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from edgevit.core.engine import Engine, Setting
from edgevit.core.errors import TargetError
from edgevit.core.target import Target

BACKENDS: dict[str, str] = {
    "openvino": "edgevit.engines.openvino",
    "onnxruntime": "edgevit.engines.onnxruntime",
    "tensorrt": "edgevit.engines.tensorrt.backend:TENSORRT",
    "tensorrt_rtx": "edgevit.engines.tensorrt.backend:TENSORRT_RTX",
}


class Backend(Protocol):
    """What a backend's module provides."""

    def check(self, model_path: Path, target: Target) -> None:
        """Refuse early: package, device, model."""

    def compile(
        self,
        model_path: Path,
        target: Target,
        precision: str,
        directory: Path,
        settings: Mapping[str, Setting],
        *,
        model_info: Mapping[str, str] | None = None,
        batch: tuple[int, int, int] | None = None,
    ) -> Engine:
        """Compile a model into a folder; see :func:`edgevit.engines.compile.compile_engine`."""

    def available(self) -> tuple[str, ...]:
        """Devices that the library finds on this machine."""

    def versions(self) -> dict[str, str]:
        """The library's versions, recorded with every engine."""


def get_backend(name: str) -> Backend:
    """The backend's module, or its object.

    Raises:
        TargetError: This version of edgevit has no such backend.
    """
    if name not in BACKENDS:
        raise TargetError(f"this version of edgevit has no {name} backend", f"the backends are {', '.join(BACKENDS)}")
    module, _, attribute = BACKENDS[name].partition(":")
    found = importlib.import_module(module)
    return cast(Backend, getattr(found, attribute) if attribute else found)
