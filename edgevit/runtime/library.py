"""import_library: an engine library's package, whose absence is one error with the line that installs it."""

from __future__ import annotations

import importlib
from typing import Any

from edgevit.core.errors import MissingPackageError
from edgevit.core.libraries import LIBRARIES
from edgevit.core.packages import install_line


def import_library(name: str, advice: str = "") -> Any:
    """The package of that name in :data:`edgevit.core.libraries.LIBRARIES`.

    ``advice`` is what to try before installing it.

    Raises:
        MissingPackageError: It is not installed, or does not load.
    """
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        reason = "is not installed" if exc.name == name else f"cannot be imported: {exc}"
        hint = f"{advice}{install_line(LIBRARIES[name].extra)}"
        raise MissingPackageError(f"{name} {reason}", hint) from exc
