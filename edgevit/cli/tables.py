"""Tables that stay within 80 columns, and how their cells are written."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from edgevit.core.report.task_figures import find_figure, list_right
from edgevit.core.report.timings import SYNTHETIC

if TYPE_CHECKING:
    from rich.table import Table

    from edgevit.core.quantization import QuantizationRecord
    from edgevit.core.report.report import Accuracy, EndToEnd, Ratio, Report, Variant

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


def make_pairs(pairs: Mapping[str, str | None]) -> Table:
    """Names and values in two columns, without empty values; long ones wrap within theirs."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        if value:
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
        "ratio": [format_optional(v.ratio.value if v.ratio else None, ".2f") for v in report.variants],
        "95 %": [MISSING, *(format_interval(v.ratio) for v in report.variants[1:])],
        **_accuracy_columns(report.variants),
        "MB": [format_megabytes(v.size_bytes) if v.size_bytes else MISSING for v in report.variants],
    }
    if len(report.variants) < 2:  # a lone variant has nothing to be compared with
        del columns["ratio"]
    columns = {name: cells for name, cells in columns.items() if any(cell != MISSING for cell in cells)}
    from rich.text import Text

    table = make_table([*columns, "status"], right=set(columns) - {"variant"}, gap=1)
    for row, variant in enumerate(report.variants):
        status = Text(variant.status, style=_COLOURS.get(variant.status, ""))
        table.add_row(*(cells[row] for cells in columns.values()), status)
    return table


def make_end_to_end_table(found: Mapping[str, EndToEnd]) -> Table:
    """What an app waits for, by variant or bundle: milliseconds of the whole and of its parts, with their shares."""
    parts = ("decode", "resize", "engine", "answer")
    table = make_table(["end to end", "ms", *parts], right={"ms", *parts})
    for name, times in found.items():
        cells = (f"{format_ms(times.parts_ms[part])} {100 * times.shares[part]:3.0f} %" for part in parts)
        table.add_row(name, format_ms(times.total_ms), *cells)
    return table


def describe_photo(times: EndToEnd) -> str:
    """``measured with one image: 500 × 375 JPEG, dog/0012.jpg``."""
    name = "" if times.image == SYNTHETIC else f", {times.image}"
    return f"measured with one image: {times.photo}{name}"


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


def _accuracy_columns(variants: Sequence[Variant]) -> dict[str, list[str]]:
    found = [v.accuracy for v in variants]

    def column(cell: Callable[[Accuracy], str]) -> list[str]:
        return [cell(a) if a is not None else MISSING for a in found]

    top1 = column(lambda a: _format_share(a.top1_percent))
    drop = column(lambda a: format_optional(a.drop_points, "+.2f"))
    agreement = column(lambda a: _format_share(a.agreement_percent))
    noise = column(lambda a: format_optional(a.sqnr_db, ".1f"))
    first = next((a for a in found if a is not None), None)
    if first is not None and first.task == "embed":
        mean = column(lambda a: format_optional(a.cosine_mean, ".4f"))
        least = column(lambda a: format_optional(a.cosine_min, ".3f"))
        return {"kNN": top1, "drop": drop, "R@1": agreement, "cos": mean, "min": least, "dB": noise}
    if first is None or first.task == "classify":
        return {"top-1": top1, "drop": drop, "agree": agreement, "dB": noise}
    worst_db = column(lambda a: f"{a.worst_level[1]:.1f}" if a.worst_level else MISSING)
    if first.task_figures:
        keys = (*list_right(first.task_figures)[:1], *([first.kept[0]] if first.kept is not None else ()))
        shares = {
            find_figure(key).column: column(lambda a, key=key: _format_figure(a.task_figures, key))  # type: ignore[misc]
            for key in keys
        }
        return {**shares, "dB": worst_db}
    if len(first.level_sqnr_db) > _MOST_LEVELS:  # too many for a line
        worst = column(lambda a: a.worst_level[0] if a.worst_level else MISSING)
        return {"worst": worst, "dB": worst_db}
    levels = {f"dB{name.removeprefix('level').removeprefix('block')}": name for name in first.level_sqnr_db}
    return {
        header: column(lambda a, name=name: format_optional(a.level_sqnr_db.get(name), ".1f"))  # type: ignore[misc]
        for header, name in levels.items()
    }


def _format_figure(figures: Mapping[str, float], key: str) -> str:
    return find_figure(key).format(figures[key]).partition(" ")[0] if key in figures else MISSING


def format_ms(value: float) -> str:
    """Three significant figures or so: ``0.123``, ``4.56``, ``27.3``, ``136``."""
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"


def format_percent(value: float) -> str:
    """``98.33``, and ``100`` only where it is all of them."""
    return "100" if value == 100 else f"{min(value, 99.99):.2f}"


def _format_share(percent: float | None) -> str:
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
    return _shorten(value, ("G", "M", "k"), f"{value:.0f}")


def format_bytes(size: float) -> str:
    """``22.9 MB``, ``512 kB``."""
    return _shorten(size, ("GB", "MB", "kB"), f"{size:.0f} B")


def _shorten(value: float, units: tuple[str, str, str], small: str) -> str:
    pairs = zip((1e9, 1e6, 1e3), units, strict=True)
    return next((f"{value / factor:.3g} {unit}" for factor, unit in pairs if value >= factor), small)
