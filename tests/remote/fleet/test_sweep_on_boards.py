"""A sweep whose cells are finished on the boards of a fleet: real builds, two sshds for boards, and no Ray."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from edgevit.cli.demo_models import MODELS
from edgevit.remote.fleet.fleet import Fleet
from edgevit.remote.sweep import sweep as module
from edgevit.remote.sweep.cluster import Cluster
from edgevit.remote.sweep.plan import Plan
from edgevit.remote.sweep.result import CellResult
from edgevit.remote.sweep.sweep import sweep
from edgevit.remote.sweep.work import ATTEMPTS_FILE, build_cell
from edgevit.runtime.bundle import load_bundle
from tests.support.boards import FakeBoards

RECIPE = 'precision = "fp32"\nlatency_runs = 2\nlatency_seconds = 0.05\ntune_settings = false\n'


def run_here(tasks: Any, cluster: Cluster, listen: Any, **given: Any) -> list[CellResult]:
    tasks[0].job.folder.parent.mkdir(exist_ok=True)
    results = []
    for task in tasks:
        assert not task.measured, "the board measures it"
        results.append(build_cell(task.job))
        listen(None, results[-1])
    return results


@pytest.mark.slow
def test_cells_of_a_boards_target_are_finished_and_measured_there_once(
    boards: FakeBoards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "connect", lambda address: contextlib.nullcontext(Cluster({"a": 2})))
    monkeypatch.setattr(module, "run_jobs", run_here)
    (tmp_path / "quick.toml").write_text(RECIPE)
    fleet = Fleet(tmp_path / "fleet.toml", (boards.board("pi-1"), boards.board("pi-2")))
    plan = Plan(
        sources=tuple(str(path) for path in MODELS.values()), targets=("cpu",), recipes=(str(tmp_path / "quick.toml"),)
    )
    notes: list[str] = []
    result = sweep(plan, out=tmp_path / "sweep", fleet=fleet, note=notes.append)
    assert len(result.cells) == 2
    for cell in result.cells:
        assert cell.passed
        assert cell.machine.startswith(("pi-1 (", "pi-2 ("))
        assert cell.figures["latency_p50_ms"] > 0
        assert cell.bundle is not None
        assert load_bundle(tmp_path / "sweep" / cell.bundle).manifest.engine is not None
        attempts = (tmp_path / "sweep" / "cells" / cell.name / ATTEMPTS_FILE).read_text()
        assert attempts.count(" ended ") == 1
        assert any(note.startswith(f"{cell.name}: finished on pi-") for note in notes)
    assert result.answers[0].chosen in [cell.name for cell in result.cells]
    asked = len(boards.asked)
    again = sweep(plan, out=tmp_path / "sweep", fleet=fleet, note=notes.append)
    assert again.cells == result.cells
    assert again.warnings == result.warnings
    assert "start" not in [verb for _, verb in boards.asked[asked:]], "what is finished is not sent again"
