"""run_jobs on a small Ray of its own, with steps that take no model."""

from __future__ import annotations

import os
import platform
import signal
import time

import pytest

from edgevit.core.errors import CheckpointError
from edgevit.remote.sweep.cluster import Cluster, connect
from edgevit.remote.sweep.result import CellResult
from edgevit.remote.sweep.run import State, Steps, run_jobs
from edgevit.remote.sweep.work import Job, MachineFaultError, do_once
from tests.support.sweep_jobs import (
    count_ends,
    list_disturbed,
    make_jobs,
    make_result,
    make_steps,
    make_tasks,
    note_interval,
    read_intervals,
)

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster():
    with connect(cpus=4) as found:  # two slots
        yield found


def test_run_jobs_builds_every_cell_once_and_tells(tmp_path, cluster):
    told: list[tuple[int, str | None]] = []
    results = run_jobs(
        make_tasks(tmp_path, 6),
        cluster,
        lambda state, result: told.append((state.done, None if result is None else result.name)),
        steps=make_steps(0.01, 0.02),
        done=3,
    )
    names = [f"cell-{number:04d}" for number in range(6)]
    assert sorted(r.name for r in results) == names
    assert count_ends(tmp_path) == dict.fromkeys(names, 1)
    assert told[0] == (3, None)
    assert [pair for pair in told if pair[1]] == [(4 + i, r.name) for i, r in enumerate(results)]
    assert not list((tmp_path / "cells").glob(".seen-*"))


def test_run_jobs_measures_each_cell_with_the_node_to_itself(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr("edgevit.remote.sweep.run.WAVE", 2)  # several waves, so that steps of both kinds take turns
    run_jobs(make_tasks(tmp_path, 10), cluster, lambda state, result: None, steps=make_steps(0.06, 0.06))
    intervals = read_intervals(tmp_path)
    order = [line["step"] for line in sorted(intervals, key=lambda line: float(line["begun"]))]
    prepared = [line for line in intervals if line["step"] == "prepare"]
    assert list(list_disturbed(intervals)) == []
    assert order.index("build") < 7  # builds do not wait for the last cell to be prepared
    assert any(
        one is not other and one["begun"] < other["ended"] and other["begun"] < one["ended"]
        for one in prepared
        for other in prepared
    )  # while preparations run side by side


def test_run_jobs_leaves_a_failed_cell_its_error_and_goes_on(tmp_path, cluster):
    def build(job: Job) -> CellResult:
        def write() -> CellResult:
            if job.cell.seed == 1:
                return job.fail(CheckpointError("half a file", "get it again"))
            job.folder.joinpath("bundle").mkdir()
            return make_result(job)

        return do_once(job, write)

    tasks = make_tasks(tmp_path, 3, measured=False)
    results = {r.name: r for r in run_jobs(tasks, cluster, lambda state, result: None, steps=Steps(build=build))}
    assert [r.name for r in results.values() if r.failed] == ["cell-0001"]
    assert results["cell-0001"].error == "half a file"
    assert tasks[1].job.load() == results["cell-0001"]  # a verdict, which another run does not ask for again


def test_cells_that_an_error_stopped_do_not_say_how_long_the_others_take(tmp_path, cluster):
    def build(job: Job) -> CellResult:
        return job.fail(CheckpointError("half a file", "get it again"))

    left = []

    def listen(state: State, result: CellResult | None) -> None:
        if result is not None:
            left.append(state.left_seconds)

    run_jobs(make_tasks(tmp_path, 2, measured=False), cluster, listen, steps=Steps(build=build))
    assert left == [None, None]


def fail_often(job: Job) -> CellResult:
    """Cell 0 meets a machine fault once, 1 always, 2 an error that nobody thought of, 3 and 4 lose their workers."""
    note_interval(job, "build", time.time())
    tries = job.folder.parent.parent / f"{job.name}.tries"
    with tries.open("a") as stream:
        stream.write("x")
    number = len(tries.read_text())
    if job.cell.seed == 1 or (job.cell.seed == 0 and number < 2):
        raise MachineFaultError("the disk is full")
    if job.cell.seed == 2:
        raise ZeroDivisionError("seven by nothing")
    if job.cell.seed == 4 or (job.cell.seed == 3 and number < 2):
        os.kill(os.getpid(), signal.SIGKILL)
    return make_result(job)


def test_run_jobs_tries_again_after_faults_of_the_machine_only(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr("edgevit.remote.sweep.run.RETRIES", 1)  # each worker that is killed takes seconds to replace
    tasks = make_tasks(tmp_path, 6, measured=False)
    steps = Steps(build=fail_often)
    results = {r.name: r for r in run_jobs(tasks, cluster, lambda state, result: None, steps=steps)}
    tries = [len((tmp_path / f"cell-{number:04d}.tries").read_text()) for number in range(6)]
    assert tries == [2, 2, 1, 2, 2, 1]
    errors = [results[task.job.name].error for task in tasks]
    assert errors[0] == errors[3] == errors[5] == ""
    assert "the machine: the disk is full" in errors[1]
    assert "unexpected ZeroDivisionError: seven by nothing" in errors[2]
    assert "its worker or node died 2 times" in errors[4]
    assert [task.job.load() for task in tasks] == [None] * 6  # nothing that the machine stopped is kept


def test_run_jobs_says_which_cell_no_node_has_the_memory_for(tmp_path, cluster):
    largest = max(cluster.memory_bytes.values())
    tasks = make_tasks(tmp_path, 2, memory_bytes=3 * largest, measured=False)
    tasks += [t for t in make_tasks(tmp_path, 3, memory_bytes=2 * largest) if t.job.cell.seed == 2]
    results = {r.name: r for r in run_jobs(tasks, cluster, lambda state, result: None, steps=make_steps())}
    assert "no node gives its tasks more than" in results["cell-0000"].error
    assert "no node gives its tasks more than" in results["cell-0001"].error
    assert results["cell-0002"].error == ""  # an estimate, and builds take less: it has all that a node has


def test_run_jobs_ends_what_runs_when_it_is_stopped(tmp_path, cluster):
    def stop(state: object, result: CellResult | None) -> None:
        if result is not None:
            raise KeyboardInterrupt

    def build(job: Job) -> CellResult:
        if job.cell.seed:
            time.sleep(3600)
        return make_result(job)

    tasks = make_tasks(tmp_path, 2, measured=False)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(tasks, cluster, stop, steps=Steps(build=build))
    # the node is free again at once, for a task that takes it whole
    assert len(run_jobs(make_tasks(tmp_path, 1), cluster, lambda s, r: None, steps=make_steps())) == 1


def test_run_jobs_tells_once_what_many_steps_say(tmp_path, cluster):
    def prepare(job: Job) -> None:
        job.note("the shared cache cannot be read")

    told: list[str] = []
    steps = Steps(prepare, make_steps().build)
    run_jobs(make_tasks(tmp_path, 3), cluster, lambda state, result: None, steps=steps, note=told.append)
    assert told == [f"{platform.node()}: the shared cache cannot be read"]


def test_run_jobs_takes_nothing_to_do(tmp_path):
    assert run_jobs([], Cluster({"a": 2}), lambda state, result: None) == []
    assert make_jobs(tmp_path, 0) == []
