"""write_page: bundles to a page on disk."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgevit.cli.page.document import make_document
from edgevit.cli.page.render import render_page
from edgevit.cli.page.sources import read_sources
from edgevit.core.errors import MissingPackageError, OutputError
from edgevit.core.packages import install_line

_PACKAGES = ("jinja2", "matplotlib")


def write_page(bundles: Sequence[Path], out: Path) -> dict[str, Any]:
    """Write the page of one bundle, or of several side by side.

    Args:
        bundles: Their folders, in the order of the page.
        out: The HTML file; one that is there is replaced.

    Returns:
        The document behind the page.

    Raises:
        MissingPackageError: What draws or renders it is not installed.
        BundleError: Some of ``bundles`` are none, or are damaged, or of a later edgevit; all of them are listed.
        OutputError: ``out`` cannot be written.
    """
    require_page_packages()
    document = make_document(read_sources(bundles, out))
    text = render_page(document)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, out)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {out}: {exc.strerror or exc}", "check the disk and permissions") from exc
    return document


def require_page_packages() -> None:
    """Refuse before anything slow where a page could not be written.

    Raises:
        MissingPackageError: Jinja2 or matplotlib is not installed.
    """
    absent = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        are = "is" if len(absent) == 1 else "are"
        raise MissingPackageError(f"{' and '.join(absent)} {are} not installed", install_line("report"))
