"""write_page and write_sweep_page: bundles, or a sweep, to a page on disk."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.cli.page.document import make_document
from edgevit.cli.page.render import render_page
from edgevit.cli.page.sources import MOST_FRONT, find_problem, is_page_of, name_bundle_page, read_sources
from edgevit.core.errors import BundleError, MissingPackageError, OutputError
from edgevit.core.packages import install_line

if TYPE_CHECKING:
    from edgevit.remote.sweep.result import SweepResult

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
    _replace(out, render_page(document))
    return document


def write_sweep_page(folder: Path, out: Path) -> dict[str, Any]:
    """Write the page of a sweep.

    Args:
        folder: The sweep's, with its ``sweep.json``.
        out: The HTML file; one that is there is replaced.

    Returns:
        The document behind the page.

    Raises:
        MissingPackageError: What draws or renders it is not installed.
        BundleError: There is no result of a sweep, or not one of this version.
        OutputError: ``out`` cannot be written.
    """
    from edgevit.cli.page.sweep_document import make_sweep_document
    from edgevit.cli.page.sweep_render import render_sweep
    from edgevit.remote.sweep.result import SweepResult

    require_page_packages()
    result = SweepResult.load(folder)
    if (problem := find_problem(out)) is not None:
        raise problem
    document = make_sweep_document(result, folder, out)
    _replace(out, render_sweep(document))
    return document


def write_bundle_pages(folder: Path, result: SweepResult) -> list[str]:
    """Beside the bundles of a sweep that are wanted, or that none beats: the page of each.

    A page that is there already stays, if it is not older than its bundle.

    Args:
        folder: The sweep's.
        result: What it came to.

    Returns:
        Of the pages that could not be written, why.

    Raises:
        MissingPackageError: What draws or renders them is not installed.
    """
    require_page_packages()
    best = {name for front in result.fronts.values() for name in front[:MOST_FRONT]}
    best |= {answer.chosen for answer in result.answers if answer.chosen is not None}
    problems = []
    for cell in result.cells:
        if cell.name not in best or cell.bundle is None:
            continue
        bundle = folder / cell.bundle
        page = name_bundle_page(bundle)
        if not is_page_of(page, bundle):
            try:
                write_page([bundle], page)
            except (BundleError, OutputError) as exc:
                problems.append(f"{cell.name}: {exc.message}")
    return problems


def _replace(out: Path, text: str) -> None:
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, out)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {out}: {exc.strerror or exc}", "check the disk and permissions") from exc


def require_page_packages() -> None:
    """Refuse before anything slow where a page could not be written.

    Raises:
        MissingPackageError: Jinja2 or matplotlib is not installed.
    """
    absent = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        are = "is" if len(absent) == 1 else "are"
        raise MissingPackageError(f"{' and '.join(absent)} {are} not installed", install_line("report"))
