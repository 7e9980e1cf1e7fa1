"""The latency of a real cell in a sweep on two raylets of this machine: ``python -m benchmarks.sweep_latency DIR 0|1``.

With 1, the other raylet is at the steps of cells that sleep for as long as the real cell is built.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.sweep_sleep import SleepingJob
from edgevit.cli.demo_models import MODELS
from edgevit.core.report.report import Report
from edgevit.remote.sweep.cell import Cell
from edgevit.remote.sweep.cluster import connect
from edgevit.remote.sweep.result import BUNDLE, CellResult
from edgevit.remote.sweep.run import Steps, Task, run_jobs
from edgevit.remote.sweep.work import Job, build_cell, prepare_cell
from edgevit.runtime.bundle import REPORT_FILE

OTHERS, SECONDS = 200, 0.5


def prepare(job: Any) -> CellResult | None:
    from benchmarks import sweep_sleep

    return prepare_cell(job) if isinstance(job, Job) else sweep_sleep.prepare(job)  # type: ignore[func-returns-value]


def build(job: Any) -> CellResult:
    from benchmarks import sweep_sleep

    return build_cell(job) if isinstance(job, Job) else sweep_sleep.build(job)


def measure(folder: Path, beside: bool) -> dict[str, Any]:
    """The cell's median and 90th percentile, and how many steps ended on the other node while it was built."""
    from tests.support.small_cluster import start_nodes

    cell = Cell(str(MODELS["vit"]), "intel-cpu", precision="fp32")
    job = Job("real", cell.identify(), cell, folder / "cells" / "real")
    others = [SleepingJob(f"{i:03d}", folder / "cells" / f"{i:03d}", SECONDS, SECONDS) for i in range(OTHERS)]
    tasks: list[Any] = [Task(job)]
    if beside:
        tasks += [Task(other) for other in others]  # type: ignore[arg-type]
    ended: list[str] = []

    class EnoughError(Exception):
        pass

    def listen(state: object, result: CellResult | None) -> None:
        if result is not None:
            ended.append(result.name)
            if result.name == "real":
                raise EnoughError

    simulated = start_nodes(2, num_cpus=2)
    try:
        with connect(simulated.address) as cluster, contextlib.suppress(EnoughError):
            run_jobs(tasks, cluster, listen, steps=Steps(prepare, build))
    finally:
        simulated.shutdown()
    report = Report.load(job.folder / BUNDLE / REPORT_FILE)
    latency = report.variants[0].latency
    assert latency is not None
    return {"p50_ms": latency.p50_ms, "p90_ms": latency.p90_ms, "others": len(ended) - 1}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2] == "1")))
