"""The latency of a real cell, built by itself or in a sweep: ``python -m benchmarks.sweep_latency DIR 0|1``.

With 0 it is one build on one core of this machine. With 1 it is a cell of a sweep on two nodes, raylets of this machine
with a core each that is theirs, and the other node builds other real cells meanwhile. What the cores share, such as the
memory, nodes do not.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.sweep_real import ONE_TYPE
from benchmarks.sweep_sleep import note_step, read_steps
from edgevit.cli.demo_models import MODELS, write_digits
from edgevit.core.report.report import Report
from edgevit.remote.sweep.cell import Cell
from edgevit.remote.sweep.cluster import connect
from edgevit.remote.sweep.result import BUNDLE
from edgevit.remote.sweep.run import Steps, Task, run_jobs
from edgevit.remote.sweep.work import Job, build_cell, prepare_cell
from edgevit.runtime.bundle import REPORT_FILE
from tests.support.sweep_plans import CHEAP

REAL, OTHERS = "real", 4
LONGER = "latency_runs = 500\nlatency_seconds = 2.0\n"
THREADS = "threads = 1\n"


def list_jobs(folder: Path, cache: Path) -> list[Job]:
    """The cell that is looked at, and others, which take less time each."""
    digits = cache / "digits"
    if not digits.is_dir():
        write_digits(digits)
    short = CHEAP + ONE_TYPE + THREADS
    long = short.replace("latency_runs = 5\nlatency_seconds = 0.05\n", LONGER)
    assert LONGER in long
    recipes = {"short": cache / "short.toml", "long": cache / "long.toml"}
    for name, text in {"short": short, "long": long}.items():
        recipes[name].write_text(text, encoding="utf-8")
    images = str(digits / "calibration")
    cells = {REAL: Cell(str(MODELS["vit"]), "intel-cpu", str(recipes["long"]), precision="fp32", calibration=images)}
    for number in range(OTHERS):
        cells[f"other-{number}"] = Cell(
            str(MODELS["swin"]), "intel-cpu", str(recipes["short"]), precision="int8", calibration=images, seed=number
        )
    return [Job(name, cell.identify(), cell, folder / "cells" / name) for name, cell in cells.items()]


def measure(folder: Path, beside: bool) -> dict[str, Any]:
    """The cell's median with its interval, and for which share of its build the other node was at a step too."""
    cache = folder.parent / "cache"
    cache.mkdir(exist_ok=True)
    os.environ |= {"EDGEVIT_CACHE": str(cache / "stages"), "OMP_NUM_THREADS": "1"}
    jobs = list_jobs(folder, cache)
    (folder / "cells").mkdir(parents=True)
    cores = sorted(os.sched_getaffinity(0))
    if beside:
        _sweep(folder, jobs, cores)
    else:
        os.sched_setaffinity(0, cores[:1])
        assert prepare_cell(jobs[0]) is None
        build_cell(jobs[0])
    latency = Report.load(jobs[0].folder / BUNDLE / REPORT_FILE).variants[0].latency
    assert latency is not None
    row = {"p50_ms": latency.p50_ms, "low_ms": latency.low_ms, "high_ms": latency.high_ms, "p90_ms": latency.p90_ms}
    return {**row, "overlap": _find_overlap(folder) if beside else 0.0}


def _sweep(folder: Path, jobs: list[Job], cores: list[int]) -> None:
    from tests.support.small_cluster import add_node, start_nodes

    def note(step: str, do: Callable[[Job], Any]) -> Callable[[Job], Any]:
        def noted(job: Job) -> Any:
            begun = time.time()
            result = do(job)
            note_step(folder, step, job.name, time.time() - begun, begun=begun)
            return result

        return noted

    os.sched_setaffinity(0, cores[:1])  # which a raylet's workers inherit
    simulated = start_nodes(1)
    try:
        os.sched_setaffinity(0, cores[1:2])
        add_node(simulated)
        os.sched_setaffinity(0, cores)
        steps = Steps(note("prepare", prepare_cell), note("build", build_cell))
        with connect(simulated.address) as cluster:
            run_jobs([Task(job) for job in jobs], cluster, lambda state, result: None, steps=steps)
    finally:
        simulated.shutdown()


def _find_overlap(folder: Path) -> float:
    steps = read_steps(folder)
    mine = next(step for step in steps if step["name"] == REAL and step["step"] == "build")
    begun, ended = mine["begun"], mine["begun"] + mine["seconds"]
    shared = [
        max(0.0, min(ended, step["begun"] + step["seconds"]) - max(begun, step["begun"]))
        for step in steps
        if step["name"] != REAL
    ]
    return sum(shared) / (ended - begun)


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2] == "1")))
