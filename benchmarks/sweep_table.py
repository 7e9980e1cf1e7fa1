"""The sweep benchmark's figures as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def render_table(result: Mapping[str, Any]) -> str:
    """``results/sweep.md``.

    Args:
        result: ``results/sweep.json``, of which parts may be absent.
    """
    lines = ["# Sweeps", "", f"{result['machine']['cpu']}; the machine ran other things too: {_list_loads(result)}."]
    if "record" in result:
        rows = result["record"]["rows"]
        steps = [row["prepare"] + row["build"] for row in rows]
        lines += [
            "",
            f"**Real cells** of the demo's models, in one sweep on this machine: {len(rows)}, of which "
            f"{sum(row['failed'] for row in rows)} failed, in {result['record']['wall_seconds']:.0f} s; a cell's steps "
            f"took {min(steps):.1f} to {max(steps):.1f} s. These durations are what the cells below sleep.",
        ]
    if "cells" in result:
        row = result["cells"]
        resident = [size / 2**20 for size in row["resident_bytes"]]
        lines += [
            "",
            f"**{row['cells']:,} cells that sleep** {_describe_scale(row)}, on {row['nodes']} simulated nodes (places "
            f"of one raylet): {row['wall_seconds']:.0f} s for {row['slept_seconds']:.0f} s of work; overhead "
            f"{100 * (1 - row['efficiency']):.1f} % (bar: 5 %). The driver's memory on the way: "
            f"{', '.join(f'{size:.0f}' for size in resident)} MiB.",
        ]
    if "efficiency" in result:
        rows = result["efficiency"]
        lines += [
            "",
            f"**Parallel efficiency** of cells that sleep {_describe_scale(rows[0])}; nodes are places of one raylet:",
        ]
        lines += ["", "| nodes | cells | seconds | work / (nodes × seconds) |", "| --- | --- | --- | --- |"]
        lines += [f"| {r['nodes']} | {r['cells']} | {r['wall_seconds']:.1f} | {r['efficiency']:.3f} |" for r in rows]
    if "kills" in result:
        row = result["kills"]
        kinds = ", ".join(f"{number} × {kind}" for kind, number in sorted(row["kills"].items()))
        lines += [
            "",
            f"**Kills** during a sweep of {row['cells']} cells that sleep and write bundles, on two raylets of this "
            f"machine: {kinds}. Lost: {row['lost']}; done twice: {row['twice']}; drivers: {row['drivers']}.",
        ]
    if "latency" in result:
        lines += [
            "",
            "**Latency** of a real cell on two raylets of this machine; steps on the other one sleep:",
            "",
            "| the other node | p50, ms | p90, ms | steps of others that ended meanwhile |",
            "| --- | --- | --- | --- |",
        ]
        for row in result["latency"]["rows"]:
            what = "at other cells" if row["beside"] else "idle"
            lines.append(f"| {what} | {row['p50_ms']:.3f} | {row['p90_ms']:.3f} | {row['others']} |")
    return "\n".join(lines) + "\n"


def _list_loads(result: Mapping[str, Any]) -> str:
    return ", ".join(f"load {load:.0f} at the end of `{part}`" for part, load in result["load"].items())


def _describe_scale(row: Mapping[str, Any]) -> str:
    return "the recorded durations" if row["scale"] == 1 else f"the recorded durations divided by {1 / row['scale']:g}"
