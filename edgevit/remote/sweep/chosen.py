"""link_chosen: the bundles that answer the question, each at a place that is the same whichever cell it is."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from edgevit.core.errors import OutputError
from edgevit.remote.sweep.result import SweepResult

CHOSEN = "chosen"


def link_chosen(result: SweepResult, root: Path) -> Mapping[str, Path]:
    """Make ``chosen/TARGET`` in a sweep's folder: a relative link to the bundle, or a copy where no link can be made.

    What an earlier run left there is replaced as a whole; of a target without an answer nothing is left.

    Args:
        result: The sweep's.
        root: Its folder.

    Returns:
        Each by the target's name; without targets that have no answer.

    Raises:
        OutputError: They cannot be written.
    """
    folder = root / CHOSEN
    bundles = {cell.name: cell.bundle for cell in result.cells}
    places: dict[str, Path] = {}
    try:
        if folder.is_symlink():
            folder.unlink()
        elif folder.exists():
            shutil.rmtree(folder)  # of links it removes the links
        for answer in result.answers:
            bundle = bundles.get(answer.chosen or "")
            if bundle is not None:
                folder.mkdir(exist_ok=True)
                places[answer.target] = folder / name_place(answer.target)
                _link(root / bundle, places[answer.target])
    except OSError as exc:
        raise OutputError(f"cannot write {folder}: {exc.strerror or exc}", "check the disk and permissions") from exc
    return places


def name_place(target: str) -> str:
    """What a target's link is called."""
    return re.sub(r"[^\w.-]+", "-", target)


def _link(bundle: Path, place: Path) -> None:
    try:
        place.symlink_to(os.path.relpath(bundle, place.parent), target_is_directory=True)
    except (OSError, NotImplementedError):  # as on Windows without the right to
        shutil.copytree(bundle, place)
