"""sweep around its cluster: what it asks to be done, and what it makes of what comes back. No Ray is started."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgevit.build.lock import lock_output
from edgevit.cli.demo_models import MODELS
from edgevit.core.errors import CheckpointError, DeviceError, OutputError
from edgevit.remote.sweep import sweep as module
from edgevit.remote.sweep.cluster import Cluster
from edgevit.remote.sweep.plan import Plan
from edgevit.remote.sweep.question import Question
from edgevit.remote.sweep.result import BUNDLE, SWEEP_FILE, CellResult, SweepResult, describe_report
from edgevit.remote.sweep.run import Task
from edgevit.remote.sweep.sweep import sweep
from edgevit.remote.sweep.work import do_once
from tests.support.page_bundles import make_report, write_page_bundle


class Worker:
    """Does the cells in this process, as far as it is let."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails = set[int]()
        self.dies_after = 1000

    def run_jobs(self, tasks: Sequence[Task], cluster: Cluster, listen: object, **given: Any) -> list[CellResult]:
        results = []
        tasks[0].job.folder.parent.mkdir(exist_ok=True)
        for number, task in enumerate(tasks):
            if number == self.dies_after:
                raise DeviceError("the Ray cluster is gone", "run it again")
            self.asked.append(task.job.name)
            results.append(do_once(task.job, functools.partial(self.build, task.job)))
        return results[::-1]  # they end in any order

    def build(self, job: Any) -> CellResult:
        if job.cell.seed in self.fails:
            return job.fail(CheckpointError("half a file", "get it again"))
        report = make_report()
        write_page_bundle(job.folder / BUNDLE, report)
        return describe_report(job.name, job.key, job.cell.source, job.target, report, bundle=True)


@pytest.fixture
def worker(monkeypatch):
    made = Worker()
    monkeypatch.setattr(module, "connect", lambda address: contextlib.nullcontext(Cluster({"a": 2, "b": 2})))
    monkeypatch.setattr(module, "run_jobs", made.run_jobs)
    return made


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    for name in "abc":
        (tmp_path / name).write_text("weights")
    sources = tuple(str(tmp_path / name) for name in "abc")
    return Plan(sources=sources, targets=("intel-cpu",), question=Question(where=("latency_p50_ms <= 5",)))


def test_sweep_keeps_the_order_of_the_plan_and_answers(plan, tmp_path, worker):
    result = sweep(plan, out=tmp_path / "out")
    assert [cell.source[-1] for cell in result.cells] == ["a", "b", "c"]
    assert result.machines == {"2 CPUs": 2}
    assert result.answers[0].chosen is not None
    assert SweepResult.load(tmp_path / "out") == dataclasses.replace(
        result, plan=SweepResult.load(tmp_path / "out").plan
    )


def test_sweep_that_was_broken_off_goes_on_with_the_rest(plan, tmp_path, worker):
    worker.dies_after = 2
    with pytest.raises(DeviceError, match="gone"):
        sweep(plan, out=tmp_path / "out")
    assert not (tmp_path / "out" / SWEEP_FILE).exists()
    first, worker.dies_after, worker.asked = worker.asked, 1000, []
    told: list[str] = []
    result = sweep(plan, out=tmp_path / "out", note=told.append)
    assert told == ["2 of 3 cells have a result already"]
    assert len(first) == 2
    assert worker.asked == [result.cells[2].name]
    worker.asked = []
    assert sweep(plan, out=tmp_path / "out").cells == result.cells  # all are there: nothing is asked
    assert worker.asked == []


def test_sweep_builds_a_cell_again_whose_checkpoint_has_changed(plan, tmp_path, worker):
    sweep(plan, out=tmp_path / "out")
    worker.asked = []
    (tmp_path / "b").write_text("other weights")
    result = sweep(plan, out=tmp_path / "out")
    assert worker.asked == [result.cells[1].name]


def test_sweep_tries_a_failed_cell_again_only_when_told(plan, tmp_path, worker, monkeypatch):
    worker.fails = {None}
    assert len(sweep(plan, out=tmp_path / "out").failed) == 3
    worker.fails, worker.asked = set(), []
    assert len(sweep(plan, out=tmp_path / "out").failed) == 3
    assert worker.asked == []
    assert sweep(plan, out=tmp_path / "out", again=True).failed == ()
    assert len(worker.asked) == 3


def test_sweep_that_finds_no_cluster_leaves_no_folder(plan, tmp_path, worker, monkeypatch):
    def refuse(address):
        raise DeviceError("no Ray cluster answers", "start one")

    monkeypatch.setattr(sys.modules["edgevit.remote.sweep.sweep"], "connect", refuse)
    with pytest.raises(DeviceError):
        sweep(plan, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(DeviceError):
        sweep(plan, out=tmp_path / "mine")
    assert (tmp_path / "mine").is_dir()


def test_sweep_is_refused_while_another_one_writes_its_folder(plan, tmp_path, worker):
    with lock_output(tmp_path / "out"), pytest.raises(OutputError, match="another build"):
        sweep(plan, out=tmp_path / "out")
    assert worker.asked == []


_LOADED = """
import sys
from edgevit.remote.sweep.plan import Plan, list_cells
from edgevit.remote.sweep.sweep import list_jobs, make_task
from pathlib import Path
cells = list_cells(Plan(sources=(sys.argv[1],), targets=("intel-cpu", "jetson-orin-nano"), precisions=("fp32",)))
tasks = [make_task(job) for job in list_jobs(cells, Path("sweep")).values()]
assert len(tasks) == 2
assert not {"torch", "onnx", "onnx_ir"} & sys.modules.keys()
"""


def test_who_hands_out_the_cells_needs_no_library_that_exports(tmp_path):
    # its workers do; it lives as long as the sweep, and is started again for its rest
    done = subprocess.run(
        [sys.executable, "-c", _LOADED, str(MODELS["vit"])], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
