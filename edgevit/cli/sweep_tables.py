"""What a sweep shows in 80 columns, of ten cells or ten thousand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgevit.cli.tables import MISSING, format_bytes, format_megabytes, format_ms, format_percent, make_table

if TYPE_CHECKING:
    from rich.table import Table

    from edgevit.remote.sweep.result import CellResult, SweepResult
    from edgevit.remote.sweep.run import Task

HEADERS: Mapping[str, str] = {
    "top1": "top-1",
    "drop_points": "drop",
    "agreement": "agree",
    "cosine": "cos",
    "sqnr_db": "dB",
    "kept": "kept",
    "latency_p50_ms": "p50",
    "latency_p90_ms": "p90",
    "latency_p99_ms": "p99",
    "answer_p50_ms": "answer",
    "size_mb": "MB",
}
"""Of the columns, by the names of :data:`edgevit.remote.sweep.question.FIGURES`."""

MOST_ROWS = 20
"""Cells of a target, or of a plan, that a screen shows."""
_LEAST_NAME = 16


def format_figure(name: str, value: float | None) -> str:
    """With the digits that the figure has elsewhere; a dash where there is none."""
    if value is None:
        return MISSING
    if name.endswith("_ms"):
        return format_ms(value)
    if name in ("top1", "agreement", "kept"):
        return format_percent(value)
    specs = {"drop_points": "+.2f", "cosine": ".4f", "sqnr_db": ".1f"}
    return format_megabytes(1e6 * value) if name == "size_mb" else format(value, specs[name])


def shorten_middle(text: str, width: int) -> str:
    """At most ``width`` characters: names of cells differ at their beginnings and their ends."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def make_target_table(result: SweepResult, target: str, width: int) -> Table:
    """The best cells of a target, the chosen one first; what an error stopped is last, and the front has a star.

    Args:
        result: The sweep's.
        target: One of its targets' names.
        width: Of the screen: names that are longer than what is left lose their middle.
    """
    from edgevit.remote.sweep.question import find_shared, rank_results

    mine = [cell for cell in result.cells if cell.target == target]
    cells = rank_results(result.question, mine)[:MOST_ROWS]
    asked = [condition.figure for condition in result.question.conditions]
    accuracy = find_shared([cell for cell in mine if cell.figures])
    names = {accuracy, "latency_p50_ms", "latency_p90_ms", "size_mb", *asked[:2]}
    figures = [name for name in HEADERS if name in names and any(name in cell.figures for cell in mine)]
    chosen = {answer.chosen for answer in result.answers}
    front = set(result.fronts.get(target, ()))
    columns = {
        "precision": [cell.variant or MISSING for cell in cells],
        **{HEADERS[name]: [format_figure(name, cell.figures.get(name)) for cell in cells] for name in figures},
        "": ["*" if cell.name in front else " " for cell in cells],
        "is": [_stand(result, cell, chosen) for cell in cells],
    }
    numbers = [HEADERS[name] for name in figures]
    texts = [[_fit(text, 24) for text in columns["is"]], *(columns[name] for name in ("precision", "", *numbers))]
    heads = ["is", "precision", "", *numbers]
    taken = sum(max(map(len, (head, *column))) + 1 for head, column in zip(heads, texts, strict=True))
    table = make_table(["cell", *columns], right=numbers, gap=1)
    for row, cell in enumerate(cells):
        name = shorten_middle(cell.name, max(_LEAST_NAME, width - taken))
        table.add_row(name, *(column[row] for column in columns.values()))
    return table


def make_plan_table(cells: Sequence[tuple[str, str, Task]], width: int) -> Table:
    """The first cells of a plan: each with its state and what it needs."""
    shown = [(name, state, _tell_needs(task, state)) for name, state, task in cells[:MOST_ROWS]]
    taken = sum(max(len(row[place]) for row in [*shown, ("", "state", "needs")]) + 2 for place in (1, 2))
    table = make_table(["cell", "state", "needs"])
    for name, state, needs in shown:
        table.add_row(shorten_middle(name, max(_LEAST_NAME, width - taken)), state, needs)
    return table


def _tell_needs(task: Task, state: str) -> str:
    if state != "to do":
        return MISSING
    return f"{format_bytes(task.memory_bytes)}, {'a node to itself' if task.measured else 'a share of a node'}"


def _stand(result: SweepResult, cell: CellResult, chosen: set[str | None]) -> str:
    return "CHOSEN" if cell.name in chosen else result.question.explain(cell) or "fit"


def _fit(text: str, width: int) -> str:
    """Of a text that may wrap: what it takes at the least."""
    return text[:width]
