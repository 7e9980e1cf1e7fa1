"""Measure every family and publisher against the publisher's own module, and write the table of docs/models.md.

    python -m scripts.list_models [PART OF A NAME …]

With parts of names only those rows are measured again; the others keep their figures. ``tests/parity/cases.py`` is the
list, which the test suite runs too.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.core.task import TaskName

if TYPE_CHECKING:
    from tests.parity.case import Case

DOCUMENT = Path(__file__).parent.parent / "docs" / "models.md"
TASKS: tuple[TaskName, ...] = ("classify", "embed", "features")
_BEGIN, _END = "<!-- begin: scripts/list_models.py -->", "<!-- end -->"
_ROW = re.compile(r"\| [^|]+ \| (?P<publisher>[^|]+) \| `(?P<name>[^`]+)` \|(?P<figures>( [^|]* \|){3})")


def render_row(case: Case, figures: Mapping[Any, float]) -> str:
    """One line of the table; figures are rounded up to one digit."""
    cells = [_render_figure(figures[task]) if task in figures else "–" for task in TASKS]
    return f"| {case.family} | {case.publisher} | `{case.name}` | {' | '.join(cells)} |"


def _render_figure(figure: float) -> str:
    if not figure:
        return "0"
    power = 10.0 ** math.floor(math.log10(figure))
    return f"{math.ceil(figure / power) * power:.0e}"


def read_rows(document: Path) -> dict[str, dict[TaskName, float]]:
    """Figures by task of every row that a document has, by publisher and name."""
    rows = {}
    for line in document.read_text(encoding="utf-8").splitlines():
        if match := _ROW.fullmatch(line):
            cells = [cell.strip() for cell in match["figures"].split("|")[:3]]
            figures = {task: float(cell) for task, cell in zip(TASKS, cells, strict=True) if cell != "–"}
            rows[f"{match['publisher']} {match['name']}"] = figures
    return rows


def main(wanted: list[str]) -> None:
    from tests.parity.case import measure
    from tests.parity.cases import CASES

    rows, known = [], read_rows(DOCUMENT)
    for case in CASES:
        if str(case) in known and wanted and not any(part in str(case) for part in wanted):
            figures = known[str(case)]
        else:
            figures = measure(case)
            print(case, figures, file=sys.stderr)
        rows.append(render_row(case, figures))
    table = [
        "| family | publisher | tested as | classify | embed | features |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(_BEGIN)
    behind = rest.split(_END)[1]
    DOCUMENT.write_text(before + "\n".join([_BEGIN, *table, *rows, _END]) + behind, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
