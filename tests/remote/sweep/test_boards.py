"""The boards of a fleet at a sweep's portable bundles; what a board does is stood in for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edgevit.core.errors import DeviceError
from edgevit.core.target import load_target
from edgevit.remote.fleet.board import Board, BoardState, BoardUnavailable, State
from edgevit.remote.fleet.fleet import Fleet
from edgevit.remote.fleet.rollout import Rollout
from edgevit.remote.fleet.twins import TwinComparison
from edgevit.remote.sweep.boards import BoardLine, leave_to_boards, list_twin_warnings, use_boards
from edgevit.remote.sweep.cell import Cell
from edgevit.remote.sweep.result import CellResult
from edgevit.remote.sweep.work import Job

PI, JETSON = load_target("raspberry-pi-5"), load_target("jetson-orin-nano")


def make_jobs(folder: Path, count: int, target: str = "raspberry-pi-5") -> list[tuple[Job, CellResult]]:
    found = []
    for number in range(count):
        name = f"{target}-{number}"
        cell = Cell(source=f"/models/{number}", target=target)
        job = Job(name, f"key{number}", cell, folder / name)
        found.append((job, CellResult(name, job.key, job.target, cell.source, bundle=f"cells/{name}/bundle")))
    return found


class Bench:
    """What boards did, and who was told what."""

    def __init__(self, do: Callable[[Board, Job], CellResult] | None = None) -> None:
        self.done: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self.heard: list[CellResult] = []
        self.do, self.lock, self.at_work = do, threading.Lock(), Counter[str]()

    def finish(self, board: Board, job: Job) -> CellResult:
        with self.lock:
            self.at_work[board.name] += 1
            assert self.at_work[board.name] == 1, "a board does one thing at a time"
        try:
            if self.do is not None:
                self.do(board, job)
            self.done.append((board.name, job.name))
            return CellResult(job.name, job.key, job.target, job.cell.source, passed=True, machine=board.name)
        finally:
            with self.lock:
                self.at_work[board.name] -= 1

    def start(self, *boards: Board, patience_seconds: float = 60.0) -> BoardLine:
        return BoardLine(
            boards, self.heard.append, self.notes.append,
            finish=self.finish, ask_seconds=0.01, patience_seconds=patience_seconds,
        )  # fmt: skip


def refuse(board: Board, state: State, why: str = "as the test says") -> None:
    raise BoardUnavailable(board.name, BoardState(state, why, "wait"))


def test_each_cell_is_finished_once_on_a_board_of_its_target(tmp_path: Path) -> None:
    bench = Bench()
    line = bench.start(Board("pi-1", "a", PI), Board("pi-2", "b", PI), Board("jet", "c", JETSON))
    jobs = [*make_jobs(tmp_path, 20), *make_jobs(tmp_path, 5, "jetson-orin-nano")]
    for job, result in jobs:
        assert line.takes(job)
        line.give(job, result)
    results = line.close()
    assert results.keys() == {job.name for job, _ in jobs}
    assert Counter(name for _, name in bench.done) == Counter(dict.fromkeys(results, 1))
    assert {board for board, name in bench.done if name.startswith("jetson")} == {"jet"}
    assert sorted(r.name for r in bench.heard) == sorted(results)
    assert all(r.passed for r in results.values())


def test_a_target_without_a_board_is_not_taken(tmp_path: Path) -> None:
    line = Bench().start(Board("pi-1", "a", PI))
    ((job, _),) = make_jobs(tmp_path, 1, "jetson-orin-nano")
    assert not line.takes(job)
    assert line.close() == {}


@pytest.mark.parametrize("state", ["busy", "hot", "full", "gone"])
def test_cells_of_a_board_that_cannot_take_work_go_to_its_twin_and_it_is_said_once(
    tmp_path: Path, state: State
) -> None:
    ill = Bench(lambda board, job: refuse(board, state) if board.name == "pi-1" else None)
    line = ill.start(Board("pi-1", "a", PI), Board("pi-2", "b", PI))
    for job, result in make_jobs(tmp_path, 6):
        line.give(job, result)
    results = line.close()
    assert len(results) == 6
    assert all(r.passed for r in results.values())
    assert {board for board, _ in ill.done} == {"pi-2"}
    assert len(ill.notes) <= 1  # none where the twin was so fast that pi-1 had nothing to take
    assert all(f"pi-1 is {state}" in note for note in ill.notes)


def test_a_cell_waits_for_the_only_board_until_it_is_free_again(tmp_path: Path) -> None:
    tries = Counter[str]()

    def do(board: Board, job: Job) -> CellResult:
        tries[job.name] += 1
        if tries[job.name] < 4:
            refuse(board, "busy")
        return None

    bench = Bench(do)
    line = bench.start(Board("pi-1", "a", PI))
    ((job, result),) = make_jobs(tmp_path, 1)
    line.give(job, result)
    assert line.close()[job.name].passed
    assert tries[job.name] == 4
    assert len(bench.notes) == 1


def test_a_board_that_stays_gone_is_left_out_and_its_cells_stay_portable(tmp_path: Path) -> None:
    bench = Bench(lambda board, job: refuse(board, "gone"))
    line = bench.start(Board("pi-1", "a", PI), patience_seconds=0.05)
    jobs = make_jobs(tmp_path, 3)
    for job, result in jobs:
        line.give(job, result)
    results = line.close()
    assert results.keys() == {job.name for job, _ in jobs}
    for result in results.values():
        assert result.bundle is not None
        assert not result.failed
        assert "still portable" in result.warnings[-1]
    assert "left out" in bench.notes[-1]


def test_what_fails_on_a_board_is_the_cells_error_and_others_go_on(tmp_path: Path) -> None:
    def do(board: Board, job: Job) -> CellResult:
        if job.name.endswith("-1"):
            raise DeviceError("the engine does not compile there", "build another precision")
        return None

    line = Bench(do).start(Board("pi-1", "a", PI))
    for job, result in make_jobs(tmp_path, 3):
        line.give(job, result)
    results = line.close()
    assert [name for name, r in sorted(results.items()) if r.failed] == ["raspberry-pi-5-1"]
    assert results["raspberry-pi-5-1"].error == "pi-1: the engine does not compile there"


def test_a_line_that_is_stopped_ends(tmp_path: Path) -> None:
    bench = Bench(lambda board, job: refuse(board, "busy"))
    line = bench.start(Board("pi-1", "a", PI))
    ((job, result),) = make_jobs(tmp_path, 1)
    line.give(job, result)
    line.stop()
    assert line.close()[job.name].warnings


def test_only_portable_cells_of_a_boards_target_are_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    fleet = Fleet(tmp_path / "fleet.toml", (Board("pi-1", "a", PI), Board("jet", "c", JETSON)))
    pairs = make_jobs(tmp_path, 3)
    other = Job("here", "key", Cell("/models/here", "intel-cpu"), tmp_path / "here")
    jobs = {job.name: job for job, _ in pairs} | {"here": other}
    engines = {"raspberry-pi-5-2"}  # has one already, from an earlier run

    def is_portable(job: Job, result: CellResult) -> bool:
        return job.name not in engines | {name for _, name in bench.done}

    monkeypatch.setattr("edgevit.remote.sweep.boards.is_portable", is_portable)
    tried: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        "edgevit.remote.sweep.boards.roll_out", lambda bundle, boards: tried.append(tuple(b.name for b in boards))
    )
    with use_boards(fleet, jobs, bench.notes.append, finish=bench.finish) as hand_on:
        for _, result in pairs:
            hand_on(result)
        hand_on(CellResult("here", "key", "intel-cpu", "/models/here", bundle="cells/here/bundle"))
    assert set(hand_on.results) == {"raspberry-pi-5-0", "raspberry-pi-5-1"}
    assert all(result.machine == "pi-1" for result in hand_on.results.values())
    assert bench.notes[0] == "no cell is for jet"
    assert tried == [], "one board of a kind has no twin"


def test_twins_are_compared_once_with_a_finished_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, tuple[str, ...]]] = []

    def roll_out(bundle: Path, boards: Sequence[Board]) -> Rollout:
        asked.append((bundle, tuple(board.name for board in boards)))
        twins = (TwinComparison(("pi-1", "pi-2"), equal_answers=True, warnings=("pi-2 takes 1.40 times as long",)),)
        return Rollout(str(bundle), "raspberry-pi-5", True, None, (), twins)

    monkeypatch.setattr("edgevit.remote.sweep.boards.roll_out", roll_out)
    boards = (Board("pi-1", "a", PI), Board("pi-2", "b", PI), Board("jet", "c", JETSON))
    jobs = [job for job, _ in make_jobs(tmp_path, 3)]
    assert list_twin_warnings(boards, jobs, print) == ("pi-2 takes 1.40 times as long",)
    assert asked == [(jobs[0].folder / "bundle", ("pi-1", "pi-2"))]


def test_cells_of_a_boards_target_are_left_to_it(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path / "fleet.toml", (Board("pi-1", "a", PI),))
    cells = {"pi": Cell("/m", "raspberry-pi-5"), "here": Cell("/m", "intel-cpu")}
    left = leave_to_boards(cells, fleet)
    assert [name for name, cell in left.items() if cell.portable] == ["pi"]
    assert left["pi"].identify() != cells["pi"].identify(), "a cell that was measured elsewhere is another"
    assert leave_to_boards(cells, None) == cells
    _, order = left["pi"].plan()
    assert order.place.where == "elsewhere"
