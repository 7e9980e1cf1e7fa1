"""Tables that stay within 80 columns, and how their cells are written."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table

    from edgevit.core.quantization import QuantizationRecord
    from edgevit.core.report.report import Accuracy, Ratio, Report, Variant

MISSING = "–"
_MOST_LEVELS = 4

_COLOURS = {
    "CHOSEN": "bold green",
    "WITHIN BUDGET": "green",
    "SLOWER": "yellow",
    "TOO SLOW": "yellow",
    "ACCURACY DROP": "red",
    "PARITY FAILED": "red",
}


def make_table(headers: Sequence[str], right: Iterable[str] = (), gap: int = 2) -> Table:
    """An empty table without vertical lines.

    Args:
        headers: Of the columns.
        right: Columns of numbers: flush right and never wrapped, so that the others give way.
        gap: Blanks between columns, 1 or more.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, gap - 1, 0, 0), pad_edge=False, show_edge=False)
    numbers = set(right)
    for header in headers:
        justify: Literal["right", "left"] = "right" if header in numbers else "left"
        table.add_column(header, justify=justify, overflow="fold", no_wrap=header in numbers)
    return table


def make_pairs(pairs: Mapping[str, str]) -> Table:
    """Names and values in two columns; long values wrap within theirs."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(name, value)
    return table


def make_verdict_table(report: Report) -> Table:
    """The variants of a build: latency in ms, ratio to the first, accuracy on validation images in %, size in MB.

    Columns in which no variant has a figure are left out.
    """
    columns: dict[str, list[str]] = {
        "variant": [v.name for v in report.variants],
        "p50": [format_ms(v.latency.p50_ms) if v.latency else MISSING for v in report.variants],
        "p90": [format_ms(v.latency.p90_ms) if v.latency else MISSING for v in report.variants],
        "ratio": _ratio_column(report.variants),
        "95 %": [MISSING, *(format_interval(v.ratio) for v in report.variants[1:])],
        **_accuracy_columns(report.variants),
        "MB": [format_megabytes(v.size_bytes) if v.size_bytes else MISSING for v in report.variants],
    }
    columns = {name: cells for name, cells in columns.items() if any(cell != MISSING for cell in cells)}
    from rich.text import Text

    table = make_table([*columns, "status"], right=set(columns) - {"variant"}, gap=1)
    for row, variant in enumerate(report.variants):
        status = Text(variant.status, style=_COLOURS.get(variant.status, ""))
        table.add_row(*(cells[row] for cells in columns.values()), status)
    return table


def make_sites_table(
    record: QuantizationRecord, count: int = 5, groups: int = 3, *, precision: str = "int8"
) -> Table | None:
    """The sites that do most damage, by the logits' SQNR where only one is quantised; ``None`` if none was measured.

    Behind them the worst groups, each by the pattern that pins it in a recipe.
    """
    worst = record.worst[:count]
    if not worst:
        return None
    table = make_table(["site", "SQNR alone", "precision"], right={"SQNR alone"})
    for site in worst:
        table.add_row(site.name, f"{site.sqnr_db:.1f} dB", site.precision)
    if record.groups:
        table.add_section()
    for pattern, sqnr_db in sorted(record.groups.items(), key=lambda item: item[1])[:groups]:
        members = [s for s in record.sites if fnmatch.fnmatchcase(s.name, pattern)]
        quantized = sum(s.precision == precision for s in members)
        table.add_row(pattern, f"{sqnr_db:.1f} dB", f"{precision}: {quantized} of {len(members)}")
    return table


def _ratio_column(variants: Sequence[Variant]) -> list[str]:
    """A lone variant has nothing to be compared with."""
    if len(variants) < 2:
        return [MISSING] * len(variants)
    return [format_optional(v.ratio.value if v.ratio else None, ".2f") for v in variants]


def _accuracy_columns(variants: Sequence[Variant]) -> dict[str, list[str]]:
    found = [v.accuracy for v in variants]
    if any(a is not None and a.task == "embed" for a in found):
        return {
            "kNN": [format_top1(a) for a in found],
            "drop": [format_optional(a.drop_points if a else None, "+.2f") for a in found],
            "R@1": [format_agreement(a) for a in found],
            "cos": [format_optional(a.cosine_mean if a else None, ".4f") for a in found],
            "min": [format_optional(a.cosine_min if a else None, ".3f") for a in found],
            "dB": [format_optional(a.sqnr_db if a else None, ".1f") for a in found],
        }
    if any(a is not None and a.task == "features" for a in found):
        return _level_columns(found)
    return {
        "top-1": [format_top1(a) for a in found],
        "drop": [format_optional(a.drop_points if a else None, "+.2f") for a in found],
        "agree": [format_agreement(a) for a in found],
        "dB": [format_optional(a.sqnr_db if a else None, ".1f") for a in found],
    }


def _level_columns(found: Sequence[Accuracy | None]) -> dict[str, list[str]]:
    """The SQNR of every level, or of the worst where they are too many for a line."""
    names = next(tuple(a.level_sqnr_db) for a in found if a is not None)
    if len(names) > _MOST_LEVELS:
        worst = [a.worst_level if a else None for a in found]
        return {
            "worst": [w[0] if w else MISSING for w in worst],
            "dB": [f"{w[1]:.1f}" if w else MISSING for w in worst],
        }
    return {
        f"dB{name.removeprefix('level').removeprefix('block')}": [
            format_optional(a.level_sqnr_db.get(name) if a else None, ".1f") for a in found
        ]
        for name in names
    }


def format_ms(value: float) -> str:
    """Three significant figures or so: ``0.123``, ``4.56``, ``27.3``, ``136``."""
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"


def format_percent(value: float) -> str:
    """``98.33``, and ``100`` only where it is all of them."""
    return "100" if value == 100 else f"{min(value, 99.99):.2f}"


def format_agreement(accuracy: Accuracy | None) -> str:
    """Agreement in per cent, or a dash."""
    percent = accuracy.agreement_percent if accuracy is not None else None
    return MISSING if percent is None else format_percent(percent)


def format_top1(accuracy: Accuracy | None) -> str:
    """Top-1 in per cent, or a dash."""
    percent = accuracy.top1_percent if accuracy is not None else None
    return MISSING if percent is None else format_percent(percent)


def format_megabytes(size: float) -> str:
    """``5.9``, ``346.3``, ``1217``: five characters at most."""
    megabytes = size / 1e6
    return f"{megabytes:.1f}" if megabytes < 999.95 else f"{megabytes:.0f}"


def format_optional(value: float | None, spec: str) -> str:
    """The value, or a dash."""
    return MISSING if value is None else f"{value:{spec}}"


def format_interval(ratio: Ratio | None) -> str:
    """``0.84–0.88``, or a dash."""
    return MISSING if ratio is None else f"{ratio.low:.2f}–{ratio.high:.2f}"


def format_count(value: float) -> str:
    """``5.72 M``, ``1.25 G``, ``812``."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {letter}"
    return f"{value:.0f}"


def format_bytes(size: float) -> str:
    """``22.9 MB``, ``512 kB``."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} B"
