"""render_sweep: the document of a sweep's page to one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from edgevit.cli.page.figures import Limits, Point, draw_tradeoff
from edgevit.cli.page.render import clean_text, open_templates
from edgevit.cli.page.sources import MOST_FRONT
from edgevit.cli.sweep_tables import HEADERS, format_figure
from edgevit.cli.tables import MISSING
from edgevit.remote.sweep.question import FIGURES, Condition, read_condition

_MOST_SERIES = 8
"""As many as there are marks."""
_MOST_NUMBERED = 30
"""Marks of a figure that have all a number; of more, the front and the chosen cell have one."""
_MOST_WARNINGS = 12
_NARROW = ("drop_points", "agreement", "sqnr_db", "latency_p99_ms", "answer_p50_ms")
"""Columns that a telephone has no room for."""


def render_sweep(document: Mapping[str, Any]) -> str:
    """The page of a document that :func:`edgevit.cli.page.sweep_document.make_sweep_document` made.

    Every text is escaped, and the page has no script and forbids itself to load anything.

    Raises:
        ModuleNotFoundError: Jinja2 or matplotlib is not installed.
    """
    from markupsafe import Markup

    shown = clean_text(document)
    templates = open_templates()
    templates.filters |= {"figure": lambda value, name: format_figure(name, value), "decoded": unquote}
    conditions = [read_condition(text) for text in shown["question"]["where"]]
    return str(
        templates.get_template("sweep.html").render(
            document=shown,
            ids=[f"target{place}" for place in range(len(shown["targets"]))],
            charts=[Markup(_draw(target, conditions)) for target in shown["targets"]],
            headers=HEADERS,
            narrow=_NARROW,
            most_front=MOST_FRONT,
            most_warnings=_MOST_WARNINGS,
            missing=MISSING,
        )
    )


def _draw(target: Mapping[str, Any], conditions: list[Condition]) -> str:
    """Accuracy against latency of a target's cells; empty where there is none to draw."""
    accuracy = target["accuracy"]
    if accuracy is None:
        return ""
    cells = [c for c in target["cells"] if {accuracy, "latency_p50_ms"} <= c["figures"].keys() and not c["failed"]]
    series: dict[str, list[Point]] = {}
    for cell, group in zip(cells, _group(cells), strict=True):
        numbered = len(cells) <= _MOST_NUMBERED or cell["front"] or cell["chosen"]
        label = str(cell["number"]) if numbered else ""
        place = cell["figures"]["latency_p50_ms"], cell["figures"][accuracy]
        point = Point(label, *place, chosen=cell["chosen"], front=cell["front"])
        series.setdefault(group, []).append(point)
    points = [point for group in series.values() for point in group]
    least = _find_bound([p.quality for p in points], [c for c in conditions if c.figure == accuracy], ">")
    most = _find_bound([p.latency for p in points], [c for c in conditions if c.figure == "latency_p50_ms"], "<")
    limits = Limits(least, most, ("least that is asked for", "most that is asked for"))
    return draw_tradeoff(dict(sorted(series.items())), FIGURES[accuracy], limits)


def _group(cells: list[Mapping[str, Any]]) -> list[str]:
    """The series of each cell: its source, or its precision where there are more sources than marks."""
    for names in ([Path(c["source"]).name for c in cells], [c["variant"] or "" for c in cells]):
        if len(set(names)) <= _MOST_SERIES:
            return names
    return [""] * len(cells)


def _find_bound(values: list[float], conditions: list[Condition], sign: str) -> float | None:
    """The strictest condition, unless it lies so far from all values that they would be pushed together."""
    bounds = [c.value for c in conditions if c.sign.startswith(sign)]
    if not bounds:
        return None
    bound = max(bounds) if sign == ">" else min(bounds)
    room = 2 * (max(values) - min(values)) or 0.05 * abs(values[0])
    return bound if min(values) - room <= bound <= max(values) + room else None
