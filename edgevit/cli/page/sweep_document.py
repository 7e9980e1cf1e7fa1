"""make_sweep_document: everything that the page of a sweep shows, as one plain document."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgevit.cli.page.sources import is_page_of, name_bundle_page
from edgevit.cli.sweep_tables import HEADERS
from edgevit.core.schema import to_data
from edgevit.remote.sweep.chosen import CHOSEN, name_place
from edgevit.remote.sweep.question import FIGURES, find_shared, rank_results
from edgevit.remote.sweep.result import CellResult, SweepResult

SCHEMA_VERSION = 1
_MOST_LISTED = 40
"""Of one list of the plan."""


def make_sweep_document(result: SweepResult, folder: Path, out: Path) -> dict[str, Any]:
    """The document behind the page: only dicts, lists, text, numbers, truth values and ``None``.

    Args:
        result: The sweep's.
        folder: Where it lies.
        out: The page's file, which its links are relative to.
    """
    targets = dict.fromkeys(cell.target for cell in result.cells)
    passed = sum(cell.passed and not cell.failed for cell in result.cells)
    return {
        "schema_version": SCHEMA_VERSION,
        "name": folder.resolve().name,
        "path": str(folder),
        "asked": str(result.question),
        "question": to_data(result.question),
        "counts": {
            "cells": len(result.cells),
            "passed": passed,
            "missed": len(result.cells) - passed - len(result.failed),
            "failed": len(result.failed),
        },
        "targets": [_describe_target(result, target, folder, out) for target in targets],
        "machines": [{"name": name, "nodes": number} for name, number in result.machines.items()],
        "measured_on": [{"name": name, "cells": number} for name, number in _count_machines(result.cells)],
        "seconds": _sum_seconds(result.cells),
        "warnings": _group_warnings(result.cells),
        "plan": {key: _list_texts(value) for key, value in result.plan.items() if key != "question"},
        "meanings": {HEADERS[name]: text for name, text in FIGURES.items()},
    }


def _describe_target(result: SweepResult, target: str, folder: Path, out: Path) -> dict[str, Any]:
    mine = [cell for cell in result.cells if cell.target == target]
    answer = next((a for a in result.answers if a.target == target), None)
    chosen = answer.chosen if answer is not None else None
    front = result.fronts.get(target, ())
    drawn = [cell for cell in mine if cell.bundle is not None and "latency_p50_ms" in cell.figures]
    rows = [
        {
            "number": number,
            "name": cell.name,
            "source": cell.source,
            "variant": cell.variant,
            "figures": dict(cell.figures),
            "standing": "chosen" if cell.name == chosen else result.question.explain(cell) or "fit",
            "chosen": cell.name == chosen,
            "front": cell.name in front,
            "failed": cell.failed,
            "error": cell.error,
            "hint": cell.hint,
            "link": _link(cell, folder, out),
        }
        for number, cell in enumerate(rank_results(result.question, mine), 1)
    ]
    place = folder / CHOSEN / name_place(target)
    return {
        "name": target,
        "sentence": answer.sentence if answer is not None else "",
        "chosen": chosen,
        "chosen_link": _point(place, out) if chosen is not None and place.exists() else None,
        "accuracy": find_shared(drawn),
        "columns": [name for name in HEADERS if any(name in cell.figures for cell in mine)],
        "front": list(front),
        "cells": rows,
    }


def _link(cell: CellResult, folder: Path, out: Path) -> str | None:
    """To the bundle's page where one lies beside it, else to its folder; none where the bundle is not below ours."""
    if cell.bundle is None:
        return None
    bundle = Path(os.path.normpath(folder / cell.bundle))
    if not bundle.is_relative_to(Path(os.path.normpath(folder))) or not bundle.is_dir():
        return None
    page = name_bundle_page(bundle)
    return _point(page if is_page_of(page, bundle) else bundle, out)


def _point(path: Path, out: Path) -> str:
    """A relative address: the page and its sweep may be moved together."""
    relative = Path(os.path.relpath(path, out.resolve().parent)).as_posix()
    return f"./{quote(relative, errors='replace')}" + ("/" if path.is_dir() else "")


def _count_machines(cells: Sequence[CellResult]) -> list[tuple[str, int]]:
    measured = Counter(c.machine for c in cells if c.machine and "latency_p50_ms" in c.figures)
    return measured.most_common()


def _sum_seconds(cells: Sequence[CellResult]) -> dict[str, float]:
    """By stage, of all cells, the longest first; what several cells share counts for the one that did it."""
    total: Counter[str] = Counter()
    for cell in cells:
        for stage, seconds in cell.seconds.items():
            total[stage] += seconds  # type: ignore[assignment]  # a Counter takes any number
    return dict(total.most_common())


def _group_warnings(cells: Sequence[CellResult]) -> list[dict[str, Any]]:
    """Those that differ only in their numbers are one, as the first cell has it."""
    found: dict[str, dict[str, Any]] = {}
    for cell in cells:
        for text in cell.warnings:
            entry = found.setdefault(re.sub(r"\d+(\.\d+)?", "#", text), {"text": text, "cell": cell.name, "cells": 0})
            entry["cells"] += 1
    return sorted(found.values(), key=lambda entry: -entry["cells"])


def _list_texts(value: Any) -> list[str]:
    """A value of the plan as texts, each short."""
    if isinstance(value, Mapping):
        return [f"{key} {_write(item)}" for key, item in value.items()]
    items = value if isinstance(value, list) else [value]
    rest = [f"… and {len(items) - _MOST_LISTED} more"] if len(items) > _MOST_LISTED else []
    return [*map(_write, items[:_MOST_LISTED]), *rest]


def _write(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_write(item)}" for key, item in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
