"""Packages that only a build needs."""

from __future__ import annotations

import importlib
from typing import Any

from edgevit.core.errors import MissingPackageError


def require_package(name: str, purpose: str) -> Any:
    """Import a package of the extra ``build``.

    Args:
        name: As it is imported.
        purpose: What needs it, for the message: ``exporting``.

    Raises:
        MissingPackageError: It cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        raise MissingPackageError(
            f"{purpose} needs {name}, which cannot be imported: {exc}", 'pip install "edgevit[build]"'
        ) from exc
