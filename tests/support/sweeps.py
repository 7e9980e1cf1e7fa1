"""Results of sweeps that nobody ran, and the folders that they would leave."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgevit.core.schema import to_data
from edgevit.remote.sweep.plan import Plan
from edgevit.remote.sweep.question import Question, answer_question, find_front
from edgevit.remote.sweep.result import CellResult, SweepResult

FIGURES = {"size_mb": 1.5, "top1": 97.5, "drop_points": 0.1, "agreement": 99.0, "latency_p50_ms": 2.0,
           "latency_p90_ms": 2.5, "latency_p99_ms": 4.0}  # fmt: skip


def make_cell(name: str, target: str = "cpu", source: str = "/models/vit", **changes: Any) -> CellResult:
    """A cell with a bundle that passed; ``figures`` are laid over :data:`FIGURES`, and those that are None are gone."""
    figures = {**FIGURES, **changes.pop("figures", {})}
    given: dict[str, Any] = {
        "bundle": f"cells/{name}/bundle",
        "passed": True,
        "precision": "int8",
        "variant": "int8",
        "sentence": "int8 is chosen",
        "seconds": {"export": 1.0, "measure": 2.0},
        "machine": "AMD EPYC",
        "figures": {key: value for key, value in figures.items() if value is not None},
    }
    return CellResult(name, "0" * 32, target, source, **{**given, **changes})


def make_failed(name: str, target: str = "cpu", source: str = "/models/vit", **changes: Any) -> CellResult:
    """A cell that an error stopped."""
    text = {"error": "the graph is not one\nline two", "hint": "give another", **changes}
    return CellResult(name, "0" * 32, target, source, machine="AMD EPYC", **text)


def make_sweep(cells: Sequence[CellResult], question: Question | None = None, **changes: Any) -> SweepResult:
    """The result of a sweep that came to these cells."""
    question = question or Question(where=("top1 >= 90",))
    plan = Plan(sources=("vit", "swin"), targets=("cpu",), question=question)
    fronts = {t: find_front([c for c in cells if c.target == t]) for t in dict.fromkeys(c.target for c in cells)}
    given: dict[str, Any] = {"machines": {"2 CPUs": 1}, **changes}
    answers = answer_question(question, cells)
    return SweepResult(to_data(plan), question, tuple(cells), answers, {t: f for t, f in fronts.items() if f}, **given)


def write_sweep(folder: Path, result: SweepResult) -> Path:
    """Its folder, with ``sweep.json`` and folders where the bundles would be."""
    folder.mkdir(parents=True, exist_ok=True)
    for cell in result.cells:
        if cell.bundle is not None:
            (folder / cell.bundle).mkdir(parents=True)
    result.save(folder)
    return folder
