"""check_cells, check_question: what is wrong with a sweep's cells, so far as that shows before a checkpoint is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from edgevit.core.errors import EdgevitError, list_some
from edgevit.remote.sweep.cell import Cell
from edgevit.remote.sweep.question import Question

_BY_LABELS = ("top1", "drop_points")
_READ_FIRST = {"target", "recipe", "labels", "templates"}
"""Without these nothing more can be said of a cell."""


def check_cells(cells: Mapping[str, Cell]) -> list[str]:
    """What is wrong with cells, a line each: files that are not there, and what a build refuses before it reads."""
    absent: dict[str, None] = {}
    seen: dict[object, str | None] = {}
    having: dict[str, list[str]] = {}
    for name, cell in cells.items():
        if cell.calibration is not None and cell.calibration == cell.validation:
            same = f"calibration and validation are both {cell.calibration}: what is judged has to be held out"
            absent[same] = None
        lost = {what: path for what, path in cell.list_files().items() if not path.exists()}
        absent |= dict.fromkeys(f"{what} {path}: no such file or folder" for what, path in lost.items())
        if lost.keys() & _READ_FIRST:
            continue
        key = dataclasses.replace(cell, source="", arch=None, validation=None)
        if key not in seen:
            try:
                cell.plan()
            except EdgevitError as exc:
                seen[key] = " ".join(exc.whole.split())
            else:
                seen[key] = None
        if (problem := seen[key]) is not None:
            having.setdefault(problem, []).append(name)
    return [*absent, *(f"{problem} ({list_some(names, 2)})" for problem, names in having.items())]


def check_question(question: Question, cells: Mapping[str, Cell]) -> Sequence[str]:
    """Conditions that no cell can keep, as nothing is judged by labels."""
    judged = any(cell.validation is not None for cell in cells.values()) or not cells
    asked = [str(condition) for condition in question.conditions if condition.figure in _BY_LABELS]
    return [] if judged else [f"where: {one} needs validation images, and no cell has any" for one in asked]
