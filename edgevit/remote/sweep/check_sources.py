"""check_sources: what shows of checkpoints before any tensor is read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgevit.checkpoints.files.adapters import CONFIG_FILE
from edgevit.checkpoints.files.files import find_files
from edgevit.core.errors import EdgevitError
from edgevit.remote.sweep.cell import Cell


def check_sources(cells: Iterable[Cell]) -> list[str]:
    """What is wrong with the files of checkpoints that are here, a line each.

    Absent or empty weights, pointers in place of files, configurations that are no JSON, files of another kind, and
    bundles. Models of the hub are not looked at, and adapters neither, as their base may be one of these.
    """
    complaints = []
    for source in dict.fromkeys(cell.list_files().get("source") for cell in cells):
        if source is None or not source.exists() or (source / CONFIG_FILE).is_file():
            continue
        try:
            _look(source)
        except EdgevitError as exc:
            complaints.append(f"source {source}: {' '.join(exc.whole.split())}; {exc.hint}")
    return complaints


def _look(source: Path) -> None:
    files = find_files(source)
    if source.is_dir():
        files.require_weights()
