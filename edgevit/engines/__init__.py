"""Engine compilers, one library a file.

A new library is a file here, one in ``runtime/`` and a record in :data:`edgevit.core.libraries.LIBRARIES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from edgevit.core.engine import Engine, Setting
from edgevit.core.errors import TargetError
from edgevit.core.libraries import LIBRARIES
from edgevit.core.target import Target


class Backend(Protocol):
    """What a backend's module, or its object, provides."""

    def check(self, model_path: Path, target: Target) -> None:
        """Refuse early what is missing of package and device, and a model that the library does not take."""

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


def get_backend(name: str) -> Backend:
    """The backend's module, or its object.

    Raises:
        TargetError: This version of edgevit has no such backend.
    """
    if name not in LIBRARIES:
        raise TargetError(f"this version of edgevit has no {name} backend", f"the backends are {', '.join(LIBRARIES)}")
    module, _, attribute = LIBRARIES[name].compiler.partition(":")
    found = importlib.import_module(module)
    return cast(Backend, getattr(found, attribute) if attribute else found)
