"""Sweeps whose driver, workers, nodes and head are killed come to what undisturbed ones come to, each cell once.

``EDGEVIT_CHAOS_KILLS`` and ``EDGEVIT_CHAOS_CELLS`` set how many; the kinds of kills take turns.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from edgevit.remote.sweep.plan import list_cells, load_plan
from edgevit.remote.sweep.result import CellResult
from edgevit.remote.sweep.sweep import list_jobs, make_task, sweep
from edgevit.runtime.bundle import RECIPE_FILE, REPORT_FILE, load_bundle
from tests.support.sweep_chaos import Torment, torment_sweep
from tests.support.sweep_jobs import count_ends, list_disturbed, make_jobs, read_intervals
from tests.support.sweep_plans import CHEAP, write_plan

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds workers in /proc")]

KILLS = int(os.environ.get("EDGEVIT_CHAOS_KILLS", "30"))
CELLS = int(os.environ.get("EDGEVIT_CHAOS_CELLS", "60"))
SEED = 24


def check_ends(root: Path, names: list[str], torment: Torment) -> None:
    ends = count_ends(root)
    print(f"{len(names)} cells, kills: {dict(torment.kills)}, drivers: {torment.runs}")
    assert 0 < sum(torment.kills.values()) <= KILLS
    assert [name for name in names if ends[name] > 1] == []  # done twice
    # a worker that is killed after its result is written and before its line is loses the line
    missing = [name for name in names if ends[name] == 0]
    assert len(missing) <= torment.kills["worker"] + torment.kills["raylet"] + torment.kills["head"]


def test_cells_that_sleep_are_each_done_once_through_kills(tmp_path):
    command = ["--cells", str(CELLS), "--seconds", "0.1", "0.3"]
    torment = torment_sweep(tmp_path, command, kills=KILLS, seed=SEED)
    jobs = make_jobs(tmp_path, CELLS)
    check_ends(tmp_path, [job.name for job in jobs], torment)
    results = [job.load() for job in jobs]
    assert all(result is not None and result.passed for result in results)
    assert [r.sentence for r in results] == [f"cell {number}" for number in range(CELLS)]
    assert list(list_disturbed(read_intervals(tmp_path))) == []
    for text in torment.spoken:  # a sentence, and nothing of Ray's
        assert len(text.splitlines()) <= 1, text


def describe(result: CellResult) -> CellResult:
    """Without what is timed."""
    figures = {name: value for name, value in result.figures.items() if not name.endswith("_ms")}
    result = dataclasses.replace(result, figures=figures, latency_interval_ms=None, seconds={})
    return dataclasses.replace(result, warnings=(), sentence="")


def hash_files(root: Path, result: CellResult) -> dict[str, str]:
    """Of each file of the cell's bundle that holds no time, by its name."""
    assert result.bundle is not None
    files = load_bundle(root / result.bundle).manifest.files
    return {name: record.sha256 for name, record in files.items() if name not in (REPORT_FILE, RECIPE_FILE)}


def test_real_cells_come_to_the_same_through_kills(tmp_path, monkeypatch):
    cells = max(6, CELLS // 10) if CELLS < 60 else CELLS
    plan = write_plan(tmp_path, cells, CHEAP)
    calm, root = tmp_path / "calm", tmp_path / "sweep"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # answers' last digits depend on it
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "cache"))
    jobs = list_jobs(list_cells(load_plan(plan), plan.parent), root)
    steps = sum(1 + make_task(job).measured for job in jobs.values())
    torment = torment_sweep(root, ["--plan", str(plan)], kills=KILLS, seed=SEED, pause=(0, 4), steps=steps)
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "calm-cache"))  # nothing that killed processes have left
    undisturbed = sweep(plan, out=calm)
    check_ends(root, list(jobs), torment)
    results = [job.load() for job in jobs.values()]
    assert [r.failed for r in results] == [r.failed for r in undisturbed.cells] == [False] * cells
    assert [describe(r) for r in results] == [describe(r) for r in undisturbed.cells]
    assert [hash_files(root, r) for r in results] == [hash_files(calm, r) for r in undisturbed.cells]
