"""What a sweep on Ray adds to the work of its cells, and whether kills or other nodes change what it comes to.

- ``record``: real cells of the demo's models, built in a sweep on this machine; how long each step takes is kept, and
  what the other parts sleep.
- ``cells``: 1,000 cells that sleep recorded durations: scheduling overhead, and the driver's memory on the way.
- ``real``: as many cells that are really built, on this machine, see :mod:`benchmarks.sweep_real`. With ``--work`` it
  goes on where an earlier run was broken off.
- ``efficiency``: cells that sleep on 1 to 64 simulated nodes. These are places of one raylet, each with a worker: 64
  raylets do not fit one small machine. What several raylets cost is not in it; they are in ``kills`` and in the tests.
- ``kills``: processes killed at random during a sweep of cells that sleep, on raylets of this machine.
- ``latency``: a real cell's latency in a sweep whose other node builds other cells, against that of a single build, see
  :mod:`benchmarks.sweep_latency`. Nodes are raylets of this machine, each with a core that is its own.
- ``evaluate``: a bundle on the 1,600 shared photos, on one and on three raylets of this machine.

Durations that are divided by ``--divide`` make overhead weigh so many times more.

    python -m benchmarks.bench_sweep [--parts record cells real efficiency kills latency evaluate]

Parts that are not run stay as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import sweep_real
from benchmarks.sweep_sleep import SleepingJob, build, draw_jobs, prepare, read_resident, read_steps
from benchmarks.sweep_table import render_table
from edgevit.core import schema
from edgevit.measure.intervals import median_interval, ratio_of_medians
from edgevit.measure.machine.local import describe_machine

RESULTS = Path(__file__).parent / "results"
PARTS = ("record", "cells", "real", "efficiency", "kills", "latency", "evaluate")
NODES = (1, 2, 4, 8, 16, 32, 64)
BARS = {"overhead": 0.05, "efficiency": 0.9}
CELLS_PER_NODE = 12


def start_places(nodes: int) -> Any:
    """A Ray of one raylet with so many places, as a cluster of so many nodes with one slot each."""
    import ray

    from edgevit.remote.sweep.cluster import NODE, Cluster, _set_environment

    with _set_environment(None):
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
        ray.init(address="local", num_cpus=nodes, resources={NODE: nodes}, **quiet)
    return Cluster({f"place {i}": 2 for i in range(nodes)}, local=True)


def time_sleeping(nodes: int, cells: int, durations: Sequence[tuple[float, float]], scale: float) -> dict[str, Any]:
    """One row: so many cells on so many places, whose workers have started."""
    import ray

    from edgevit.remote.sweep.run import Steps, Task, run_jobs

    resident: list[int] = []

    def listen(state: Any, result: object) -> None:
        if result is not None:
            resident.append(read_resident())

    def run(jobs: Sequence[SleepingJob]) -> float:
        begun = time.monotonic()
        results = run_jobs([Task(job) for job in jobs], cluster, listen, steps=Steps(prepare, build), look=lambda c: c)  # type: ignore[arg-type]
        assert sorted(r.name for r in results if r.passed) == [job.name for job in jobs]
        return time.monotonic() - begun

    with tempfile.TemporaryDirectory() as folder:
        cluster = start_places(nodes)
        try:
            run(draw_jobs(Path(folder) / "warm", [(1.0, 1.0)], 2 * nodes, 1.0))
            resident.clear()
            jobs = draw_jobs(Path(folder) / "timed", durations, cells, scale)
            seconds = run(jobs)
        finally:
            ray.shutdown()
    slept = sum(job.prepare_seconds + job.build_seconds for job in jobs)
    row = {
        "nodes": nodes,
        "cells": cells,
        "wall_seconds": seconds,
        "slept_seconds": slept,
        "scale": scale,
        "efficiency": slept / (nodes * seconds),
        "resident_bytes": resident[:: max(1, len(resident) // 10)],
    }
    print(f"{nodes} nodes, {cells} cells: {seconds:.1f} s, efficiency {row['efficiency']:.3f}", flush=True)
    return row


def record(cells: int, folder: Path) -> dict[str, Any]:
    """Real cells in a sweep on this machine: how long its steps took in their workers."""
    from edgevit.remote.sweep.sweep import sweep
    from tests.support.sweep_plans import write_plan

    folder.mkdir(parents=True, exist_ok=True)
    plan, steps_folder = write_plan(folder, cells), folder / "steps"
    begun = time.monotonic()
    with sweep_real.time_steps(steps_folder):
        result = sweep(plan, out=folder / "sweep")
    wall = time.monotonic() - begun
    found: dict[str, dict[str, float]] = {}
    for step in read_steps(steps_folder):
        found.setdefault(step["name"], {})[step["step"]] = step["seconds"]
    # a cell that is left to its device has one step
    rows = [{"cell": cell.name, "prepare": 0.0, **found[cell.name], "failed": cell.failed} for cell in result.cells]
    assert all("build" in row for row in rows), rows
    return {"wall_seconds": wall, "rows": rows}


def torment(kills: int, cells: int, folder: Path) -> dict[str, Any]:
    """A sweep of sleeping cells through kills: what was lost, and what was done twice."""
    from tests.support.sweep_chaos import torment_sweep
    from tests.support.sweep_jobs import count_ends, make_jobs

    begun = time.monotonic()
    done = torment_sweep(folder, ["--cells", str(cells), "--seconds", "0.1", "0.3"], kills=kills, seed=24)
    jobs, ends = make_jobs(folder, cells), count_ends(folder)
    return {
        "cells": cells,
        "kills": dict(done.kills),
        "drivers": done.runs,
        "lost": sum(job.load() is None for job in jobs),
        "twice": sum(number > 1 for number in ends.values()),
        "seconds": time.monotonic() - begun,
    }


def compare_latency(pairs: int, folder: Path) -> dict[str, Any]:
    """Single builds, and sweeps whose other node builds other cells; each in a process of its own, in turns."""
    rows: list[dict[str, Any]] = []
    order = [beside for pair in range(pairs) for beside in ((False, True) if pair % 2 == 0 else (True, False))]
    for number, beside in enumerate(order):
        words = [sys.executable, "-m", "benchmarks.sweep_latency", str(folder / str(number)), str(int(beside))]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        rows.append({"beside": beside, **json.loads(done.stdout.splitlines()[-1])})
        print(rows[-1], flush=True)
    medians = {kind: [row["p50_ms"] for row in rows if row["beside"] == kind] for kind in (False, True)}
    ratio, low, high = ratio_of_medians(medians[True], medians[False])
    return {"rows": rows, "single_ms": median_interval(medians[False]), "ratio": ratio, "low": low, "high": high}


def judge(result: dict[str, Any]) -> bool:
    """Whether what was measured keeps its bars."""
    cells, efficiency, kills = result.get("cells"), result.get("efficiency"), result.get("kills")
    real, evaluated, latency = result.get("real"), result.get("evaluate"), result.get("latency")
    return all(
        (
            cells is None or 1 - cells["efficiency"] <= BARS["overhead"],
            real is None or real["overhead"] <= BARS["overhead"],
            real is None or (real["finished"] == real["asked"] and not real["twice"]),
            latency is None or latency["low"] <= 1 <= latency["high"],
            evaluated is None or not any(row.get("differs") for row in evaluated["rows"]),
            efficiency is None or efficiency[-1]["efficiency"] >= BARS["efficiency"],
            kills is None or kills["lost"] == kills["twice"] == 0,
        )
    )


def main() -> int:
    """Measure, write ``results/sweep.json`` and ``.md`` after every part, and exit with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--real", type=int, default=24, help="real cells whose steps are recorded")
    parser.add_argument("--cells", type=int, default=1000, help="cells that sleep")
    parser.add_argument("--nodes", type=int, nargs="+", default=NODES, help="simulated ones, for efficiency")
    parser.add_argument("--on", type=int, default=16, help="simulated nodes for the cells that sleep")
    parser.add_argument("--divide", type=float, default=1.0, help="recorded durations by this")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--pairs", type=int, default=6, help="of single builds and sweeps, for latency")
    parser.add_argument("--built", type=int, default=1000, help="cells that are really built")
    parser.add_argument("--work", type=Path, help="where they are built, to go on another time")
    parser.add_argument("--seconds", type=float, default=1e9, help="after which building them is broken off")
    args = parser.parse_args()
    path = args.results / "sweep.json"
    args.results.mkdir(exist_ok=True)
    result: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    for part in args.parts:
        with tempfile.TemporaryDirectory() as name:
            if part == "record":
                result[part] = record(args.real, Path(name))
            durations = [(row["prepare"], row["build"]) for row in result.get("record", {}).get("rows", ())]
            if not durations and part in ("cells", "efficiency"):
                parser.error("run the part record first: it has the durations")
            if part == "cells":
                result[part] = time_sleeping(args.on, args.cells, durations, 1 / args.divide)
            elif part == "real":
                result[part] = sweep_real.build_all(args.work or Path(name), args.built, args.seconds)
            elif part == "efficiency":
                counts = [(nodes, CELLS_PER_NODE * nodes) for nodes in args.nodes]
                result[part] = [time_sleeping(nodes, cells, durations, 1 / args.divide) for nodes, cells in counts]
            elif part == "kills":
                result[part] = torment(args.kills, 2 * args.kills, Path(name))
            elif part == "latency":
                result[part] = compare_latency(args.pairs, Path(name))
            elif part == "evaluate":
                from benchmarks.int8_models import find_assets  # with torch, which a sweep's driver does without
                from benchmarks.sweep_evaluate import evaluate_shared

                assets = find_assets()
                if assets is None:
                    parser.error("the photos are absent, set EDGEVIT_ASSETS")
                result[part] = evaluate_shared(assets, Path(name))
        result["machine"] = schema.to_data(describe_machine())
        result["load"] = {**result.get("load", {}), part: statistics.fmean(os.getloadavg()[:2])}
        path.write_text(json.dumps(result, indent=1) + "\n")
        path.with_suffix(".md").write_text(render_table(result))
    return 0 if judge(result) else 1


if __name__ == "__main__":
    raise SystemExit(main())
