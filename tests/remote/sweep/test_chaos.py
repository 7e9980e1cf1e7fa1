"""Sweeps whose driver, workers, nodes and head are killed come to what undisturbed ones come to, each cell once.

``EDGEVIT_CHAOS_KILLS`` and ``EDGEVIT_CHAOS_CELLS`` set how many; the kinds of kills take turns.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from edgevit.cli.demo_models import MODELS, write_digits
from edgevit.remote.sweep.plan import list_cells, load_plan
from edgevit.remote.sweep.result import CellResult
from edgevit.remote.sweep.sweep import list_jobs, sweep
from tests.support.sweep_chaos import Torment, torment_sweep
from tests.support.sweep_jobs import count_ends, list_disturbed, make_jobs, read_intervals

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds workers in /proc")]

KILLS = int(os.environ.get("EDGEVIT_CHAOS_KILLS", "30"))
CELLS = int(os.environ.get("EDGEVIT_CHAOS_CELLS", "60"))
SEED = 24


def check_ends(root: Path, names: list[str], torment: Torment) -> None:
    ends = count_ends(root)
    print(f"{len(names)} cells, kills: {dict(torment.kills)}, drivers: {torment.runs}")
    assert sum(torment.kills.values()) <= KILLS
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
    for text in torment.spoken:  # a sentence; Ray's core may add that it cannot tell its head
        assert len([line for line in text.splitlines() if "task_manager.cc" not in line]) <= 1, text


def write_plan(folder: Path, cells: int) -> Path:
    """So many cells of the demo's models: each in three forms, with another seed each time."""
    digits = write_digits(folder / "digits")
    cases = [(model, precision) for precision in ("fp32", "int8", "auto") for model in MODELS.values()]
    lines = [f'calibration = "{digits.calibration}"']
    for number in range(cells):
        model, precision = cases[number % len(cases)]
        lines += ["[[include]]", f'source = "{model}"', 'target = "intel-cpu"']
        lines += [f'set = {{precision = "{precision}", seed = {number // len(cases)}}}']
    plan = folder / "plan.toml"
    plan.write_text("\n".join(lines) + "\n")
    return plan


def describe(result: CellResult) -> CellResult:
    """Without what is timed."""
    figures = {name: value for name, value in result.figures.items() if not name.endswith("_ms")}
    return dataclasses.replace(result, figures=figures, seconds={}, warnings=(), sentence="")


def test_real_cells_come_to_the_same_through_kills(tmp_path):
    cells = max(6, CELLS // 10) if CELLS < 60 else CELLS
    plan = write_plan(tmp_path, cells)
    calm, root = tmp_path / "calm", tmp_path / "sweep"
    torment = torment_sweep(root, ["--plan", str(plan)], kills=KILLS, seed=SEED, pause=(3, 15))
    undisturbed = sweep(plan, out=calm)
    jobs = list_jobs(list_cells(load_plan(plan), plan.parent), root)
    check_ends(root, list(jobs), torment)
    results = [job.load() for job in jobs.values()]
    # which precision is chosen where each may be is a matter of latencies
    fixed = [i for i, job in enumerate(jobs.values()) if job.cell.precision is not None]
    assert [describe(results[i]) for i in fixed] == [describe(undisturbed.cells[i]) for i in fixed]
    assert [r.failed for r in results] == [r.failed for r in undisturbed.cells]
