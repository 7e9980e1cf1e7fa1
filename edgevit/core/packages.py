"""Packages: those that only a build needs, and the versions of what is installed."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from edgevit.core.errors import MissingPackageError


def find_shipped(name: str) -> Path:
    """A folder of data that ships with the package: inside a wheel, or beside the package in a checkout."""
    package = Path(__file__).parents[1]
    packed = package / "_data" / name
    return packed if packed.is_dir() else package.parent / name


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


@functools.cache
def list_versions(names: tuple[str, ...]) -> Mapping[str, str]:
    """Versions of those distributions that are installed; nothing is imported."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
