"""Packages: those that only a build needs, and the versions of what is installed."""

from __future__ import annotations

import functools
import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgevit.core.errors import MissingPackageError


def find_shipped(name: str) -> Path:
    """A folder of data that ships with the package: inside a wheel, or beside the package in a checkout."""
    package = Path(__file__).parents[1]
    packed = package / "_data" / name
    return packed if packed.is_dir() else package.parent / name


def require_package(name: str, purpose: str, extra: str = "build") -> Any:
    """Import a package of an extra, or a module of one.

    Args:
        name: As it is imported.
        purpose: What needs it, for the message: ``exporting``.
        extra: Of ``pyproject.toml``, that installs it.

    Raises:
        MissingPackageError: It cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        raise MissingPackageError(
            f"{purpose} needs {name.partition('.')[0]}, which cannot be imported: {exc}", install_line(extra)
        ) from exc


@functools.cache
def install_line(extra: str) -> str:
    """The command that installs an extra from where edgevit itself was installed: no index has it.

    Installers write down where that was: https://packaging.python.org/en/latest/specifications/direct-url/
    """
    from importlib import metadata  # which imports much, and most processes need no such line
    from urllib.request import url2pathname

    try:
        origin = json.loads(metadata.distribution("edgevit").read_text("direct_url.json") or "{}")
        url, folder, version = origin["url"], origin.get("dir_info", {}), origin.get("vcs_info", {})
    except (metadata.PackageNotFoundError, ValueError, KeyError):
        url, folder, version = "", {}, {}
    path = url2pathname(urlsplit(url).path) if url.startswith("file:") else None
    if not url or (path is not None and not os.path.exists(path)):
        return f'pip install "PATH[{extra}]", where PATH is the folder or wheel that edgevit came from'
    if path is not None and folder.get("editable"):
        return f'pip install -e "{path}[{extra}]"'
    if version:
        url = f"{version['vcs']}+{url}@{version['commit_id']}"
    return f'pip install "edgevit[{extra}] @ {url}"'


@functools.cache
def list_versions(names: tuple[str, ...]) -> Mapping[str, str]:
    """Versions of those distributions that are installed; nothing is imported."""
    from importlib import metadata

    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
