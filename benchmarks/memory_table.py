"""The memory benchmark's figures as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MIB = 2**20
_COLUMNS = ("checkpoint_bytes", "start_bytes", "peak_bytes", "peak_mapped_bytes")


def render_table(result: Mapping[str, Any]) -> str:
    """``results/memory.md``.

    Args:
        result: ``results/memory.json``.
    """
    lines = [
        "# Peak memory of a build",
        "",
        "Random weights, an empty cache, target `intel-cpu`; the greatest resident set of the build's process, mapped",
        "files included: they are the column `mapped`, whose pages the system can take back. `start` is Python with",
        "the benchmark's own imports.",
        "",
        "| model | precision | checkpoint | start | peak | mapped | peak / checkpoint | bar | reached in |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["rows"]:
        bar = "–" if row["bar"] is None else f"≤ {row['bar']:g}"
        figures = [f"{row[key] / _MIB:,.0f} MiB" for key in _COLUMNS]
        figures += [f"{row['ratio']:.2f}", bar, _find_peak(row)]
        lines.append(f"| `{row['model']}` | {row['precision']} | {' | '.join(figures)} |")
    if result.get("limits"):
        lines += [
            "",
            "Under a limit that the kernel enforces, page cache included (a control group without swap); INT8 is",
            "calibrated on 32 random images. The bar of 3 is on float builds:",
            "",
            "| model | precision | limit | peak | peak / checkpoint | reached in | ends in |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for row in result["limits"]:
            end = "a bundle" if row["passed"] else f"exit {row['status']}"
            peak = row.get("peak_bytes")
            figures = [f"{peak / _MIB:,.0f} MiB", f"{peak / row['checkpoint_bytes']:.2f}"] if peak else ["–", "–"]
            figures.append(_find_peak(row))
            lines.append(
                f"| `{row['model']}` | {row['precision']} | {row['limit_gib']:g} GiB | {' | '.join(figures)} | {end} |"
            )
    machine = result["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in sorted(machine.get("packages", {}).items()))
    lines += ["", f"Measured on {machine.get('cpu', 'an unknown processor')}; {packages}.", ""]
    return "\n".join(lines)


def _find_peak(row: Mapping[str, Any]) -> str:
    """The stage in which the process was largest, where stages were kept."""
    stages = row.get("stages", {})
    return max(stages, key=stages.get, default="–")
