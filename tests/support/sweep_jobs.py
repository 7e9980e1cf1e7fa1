"""Cells of a sweep that take no model: their steps sleep, write bundles, and note when and where they ran."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgevit.core.report.variant import Verdict
from edgevit.remote.sweep.cell import Cell
from edgevit.remote.sweep.result import BUNDLE, CellResult, describe_report
from edgevit.remote.sweep.run import Steps, Task
from edgevit.remote.sweep.work import ATTEMPTS_FILE, Job, do_once
from tests.support.page_bundles import make_report, write_page_bundle

INTERVALS_FILE = "intervals.log"


def make_jobs(root: Path, count: int) -> list[Job]:
    """So many jobs in a sweep's folder; their source is there."""
    source = root / "source"
    (root / "cells").mkdir(parents=True, exist_ok=True)
    source.touch()
    names = [f"cell-{number:04d}" for number in range(count)]
    cells = [Cell(str(source), "intel-cpu", seed=number) for number in range(count)]
    return [Job(n, f"{c.seed:032d}", c, root / "cells" / n) for n, c in zip(names, cells, strict=True)]


def make_tasks(root: Path, count: int, *, memory_bytes: int = 0, measured: bool = True) -> list[Task]:
    """The same as tasks."""
    return [Task(job, measured, memory_bytes) for job in make_jobs(root, count)]


def make_steps(prepare_seconds: float = 0.0, build_seconds: float = 0.0) -> Steps:
    """Steps that sleep. They are sent to workers whole, with these numbers."""

    def prepare(job: Job) -> CellResult | None:
        if (found := job.load()) is not None:
            return found
        begun = time.time()
        time.sleep(prepare_seconds)
        note_interval(job, "prepare", begun)
        return None

    def build(job: Job) -> CellResult:
        def write() -> CellResult:
            begun = time.time()
            time.sleep(build_seconds)
            report = make_report(verdict=Verdict("int8", True, f"cell {job.cell.seed}"))
            write_page_bundle(job.folder / BUNDLE, report)
            note_interval(job, "build", begun)
            return describe_report(job.name, job.key, job.cell.source, job.target, report, bundle=True)

        return do_once(job, write)

    return Steps(prepare, build)


def make_result(job: Job) -> CellResult:
    """What the cell comes to, by its number."""
    figures = {"latency_p50_ms": 1.0 + job.cell.seed}
    return CellResult(
        job.name, job.key, job.target, job.cell.source, f"cells/{job.name}/{BUNDLE}", True, "int8", figures=figures
    )


def note_interval(job: Job, step: str, begun: float) -> None:
    """Add when the step ran, and on which node."""
    import ray

    line = {"step": step, "name": job.name, "node": ray.get_runtime_context().get_node_id(), "pid": os.getpid(),
            "begun": begun, "ended": time.time()}  # fmt: skip
    with (job.folder.parent.parent / INTERVALS_FILE).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def read_intervals(root: Path) -> list[dict[str, Any]]:
    """Every step that ended."""
    return [json.loads(line) for line in (root / INTERVALS_FILE).read_text(encoding="utf-8").splitlines()]


def list_disturbed(intervals: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Builds beside which something else ran on the same node."""
    for build in intervals:
        for other in intervals:
            apart = other["ended"] <= build["begun"] or build["ended"] <= other["begun"]
            if build["step"] == "build" and other is not build and other["node"] == build["node"] and not apart:
                yield build["name"], other["name"]


def count_ends(root: Path) -> Counter[str]:
    """How often each cell ended, by its list of attempts."""
    ends: Counter[str] = Counter()
    for path in (root / "cells").glob(f"*/{ATTEMPTS_FILE}"):
        ends[path.parent.name] = path.read_text(encoding="utf-8").count(" ended ")
    return ends
