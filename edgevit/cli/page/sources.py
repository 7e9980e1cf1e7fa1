"""read_sources: what a page is made from, the report and the manifest of every bundle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevit.core.errors import BundleError, EdgevitError, OutputError, format_offenders
from edgevit.core.report.report import Report
from edgevit.runtime.bundle import REPORT_FILE, load_bundle, refuse_inside
from edgevit.runtime.manifest import FileRecord, Manifest

MOST_FRONT = 15
"""Bundles of each target of a sweep that have a page of their own, and stand beside the figure of the sweep's page."""
_MARK = b"<title>edgevit report: "  # by which a page is known that may be replaced


@dataclass(frozen=True)
class Source:
    """One bundle of a page.

    Attributes:
        name: That the page calls it by; of several bundles each has its own.
        path: As it was given.
        report: Its ``report.json``.
        manifest: Its ``manifest.json``.
    """

    name: str
    path: str
    report: Report
    manifest: Manifest


def name_bundle_page(bundle: Path) -> Path:
    """Where the page of a bundle lies that a sweep has written: beside it."""
    return bundle.with_name(f"{bundle.name}.html")


def is_page_of(page: Path, bundle: Path) -> bool:
    """Whether the page is there, and not of a bundle that lay there before."""
    try:
        return page.is_file() and page.stat().st_mtime >= bundle.stat().st_mtime
    except OSError:
        return False


def read_sources(paths: Sequence[Path], out: Path | None = None) -> tuple[Source, ...]:
    """Read what a page shows.

    Args:
        paths: Folders of bundles, or packed bundles.
        out: The file that is to be written, to refuse it together with the bundles.

    Raises:
        BundleError: Some are no bundles, are damaged, or are of a later edgevit; all of them are listed.
        OutputError: All bundles are good, and ``out`` cannot be written.
    """
    found: list[tuple[Path, Report, Manifest]] = []
    offenders: list[EdgevitError] = []
    for path in paths:
        try:
            found.append((path, *_read(path)))
        except BundleError as exc:
            offenders.append(exc)
    if out is not None and (problem := find_problem(out)) is not None:
        offenders.append(problem)
    if len(offenders) == 1:
        raise offenders[0]
    if offenders:
        hints = "; ".join(dict.fromkeys(exc.hint for exc in offenders if exc.hint))
        raise BundleError(
            f"{len(offenders)} of what was named cannot be used:\n" + format_offenders([e.whole for e in offenders]),
            hints,
        )
    given = [path.resolve().name or str(path) for path, _, _ in found]
    counts = Counter(given)
    names = [name if counts[name] == 1 else str(path) for name, (path, _, _) in zip(given, found, strict=True)]
    again = Counter(names)
    names = [n if again[n] == 1 else f"{n} ({place})" for place, n in enumerate(names, 1)]
    return tuple(
        Source(name, str(path), report, manifest) for name, (path, report, manifest) in zip(names, found, strict=True)
    )


def _read(path: Path) -> tuple[Report, Manifest]:
    bundle = load_bundle(path)
    file = path / REPORT_FILE
    report = Report.parse(bundle.read(REPORT_FILE), file)
    record = bundle.manifest.files.get(REPORT_FILE)
    if record is not None and FileRecord(*bundle.contents.hash(REPORT_FILE)) != record:
        raise BundleError(f"{file} is not as the bundle's manifest says", "copy the bundle again, or build it again")
    return report, bundle.manifest


def find_problem(out: Path) -> OutputError | None:
    """Why a page cannot be written there, as far as that can be told before."""
    if out.is_dir():
        return OutputError(f"{out} is a folder", "give the name of a file, as --out report.html")
    if not out.parent.is_dir():
        return OutputError(f"{out} cannot be written: {out.parent} is not a folder", "make it first, or give another")
    try:
        refuse_inside(out)
        with out.open("rb") as stream:
            known = _MARK in stream.read(2000)
    except FileNotFoundError:
        return None
    except OutputError as exc:
        return exc
    except OSError as exc:
        return OutputError(f"{out}: {exc.strerror}", "give another name")
    return None if known else OutputError(f"{out} is there, and is not such a page", "give another name, or remove it")
