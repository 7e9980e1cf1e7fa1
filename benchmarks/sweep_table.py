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
    if "real" in result:
        lines += ["", _describe_real(result["real"])]
    if "latency" in result:
        found = result["latency"]
        low, high = found["single_ms"]
        lines += [
            "",
            "**Latency** of a real cell, by a single build and in a sweep of two nodes of which the other one builds "
            "other cells. Nodes are raylets of this machine, each with a core of its own; each row is a process of its "
            f"own, in turns. Medians of single builds: {low:.4f} to {high:.4f} ms (95 %). Sweep over single build: "
            f"{found['ratio']:.3f} ({found['low']:.3f} to {found['high']:.3f}).",
            "",
            "| | p50, ms (95 % over its rounds) | p90, ms | share of the build with steps on the other node |",
            "| --- | --- | --- | --- |",
        ]
        for row in found["rows"]:
            what = "in a sweep" if row["beside"] else "single build"
            sure = f"{row['p50_ms']:.4f} ({row['low_ms']:.4f} to {row['high_ms']:.4f})"
            lines.append(f"| {what} | {sure} | {row['p90_ms']:.4f} | {100 * row['overlap']:.0f} % |")
    if "evaluate" in result:
        found = result["evaluate"]
        lines += [
            "",
            f"**Evaluation** of a DeiT-Ti in fp32 with its float model on {found['images']:,} photos (top-1 "
            f"{found['top1']:.2f} %); nodes are raylets of this machine with one CPU each:",
            "",
            "| nodes | figures | seconds |",
            "| --- | --- | --- |",
        ]
        for row in found["rows"]:
            differs = row.get("differs", [])
            what = f"differ: {', '.join(differs)}" if differs else "equal to the last digit" if row["nodes"] else ""
            lines.append(f"| {row['nodes'] or 'without Ray'} | {what} | {row['seconds']:.0f} |")
    return "\n".join(lines) + "\n"


def _describe_real(row: Mapping[str, Any]) -> str:
    steps = ", ".join(f"{s['number']:,} × {name} of {s['mean_seconds']:.1f} s" for name, s in row["steps"].items())
    resident = ", ".join(f"{size / 2**20:.0f}" for size in row["resident_bytes"])
    asked = "" if row["finished"] == row["asked"] else f" of {row['asked']:,}, which is as far as the time went"
    return (
        f"**{row['finished']:,} cells that are really built**{asked}, on this machine, a step at a "
        "time: the demo's two models in two sizes, for ten targets, in fp32 and INT8. The first 80 cells fill the "
        "stage cache; the others differ from one of them only in the accuracy that they may lose. Two targets are "
        f"measured here ({row['measured']:,} cells), three are compiled here, five are left to the device. "
        f"{row['failed']} failed, {row['twice']} were done twice; {row['runs']} run{'s' if row['runs'] > 1 else ''} of "
        f"{row['wall_seconds']:.0f} s in all for {row['work_seconds']:.0f} s of work ({steps}): overhead "
        f"{100 * row['overhead']:.1f} % (bar: 5 %). The driver took {row['driver_cpu_seconds']:.0f} s of a core; its "
        f"memory on the way: {resident} MiB."
    )


def _list_loads(result: Mapping[str, Any]) -> str:
    return ", ".join(f"load {load:.0f} at the end of `{part}`" for part, load in result["load"].items())


def _describe_scale(row: Mapping[str, Any]) -> str:
    return "the recorded durations" if row["scale"] == 1 else f"the recorded durations divided by {1 / row['scale']:g}"
