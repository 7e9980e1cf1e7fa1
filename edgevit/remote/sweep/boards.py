"""BoardLine: portable bundles of a sweep's cells are finished on the boards of a fleet, one at a time on each.

Every board has a thread, which takes the next cell of the board's target. A board that is busy, hot, full or gone is
said so once, and asked again later; its cell goes to whichever board of the target is free first, its twin or itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence

from edgevit.core.errors import EdgevitError
from edgevit.core.target import load_target
from edgevit.remote.fleet.board import Board, BoardUnavailable
from edgevit.remote.fleet.finish_on_board import finish_on_board
from edgevit.remote.fleet.fleet import Fleet
from edgevit.remote.fleet.rollout import roll_out
from edgevit.remote.sweep.cell import Cell
from edgevit.remote.sweep.result import BUNDLE, CellResult, describe_result
from edgevit.remote.sweep.work import Job
from edgevit.runtime.bundle import load_bundle

ASK_SECONDS = 30.0
"""Between two questions to a board that cannot take work."""
PATIENCE_SECONDS = 1800.0
"""Without an end, for how long a board that cannot take work is asked; then it is left out."""

Finish = Callable[[Board, Job], CellResult]


def is_portable(job: Job, result: CellResult) -> bool:
    """Whether the cell's bundle has no engine yet."""
    if result.bundle is None:
        return False
    try:
        return load_bundle(job.folder / BUNDLE).manifest.engine is None
    except EdgevitError:
        return False


def finish_cell(board: Board, job: Job) -> CellResult:
    """Finish a cell's portable bundle on a board; the finished one takes its place, and the result is kept.

    Raises:
        BoardUnavailable: The board cannot take it now.
        EdgevitError: It failed there.
    """
    bundle = job.folder / BUNDLE
    built = finish_on_board(board, bundle, out=bundle)
    found = describe_result(job.name, job.key, job.cell.source, job.target, built)
    found = dataclasses.replace(found, machine=f"{board.name} ({found.machine})")
    found.save(job.folder)
    return found


class BoardLine:
    """A fleet at work for a sweep.

    Args:
        boards: Of the fleet.
        listen: Told the result of every cell that a board has finished, from that board's thread.
        note: Told, a sentence each, of boards that cannot take work, and of twins that differ.
        finish: What a board does.
        ask_seconds: See :data:`ASK_SECONDS`.
        patience_seconds: See :data:`PATIENCE_SECONDS`.
    """

    def __init__(
        self,
        boards: Sequence[Board],
        listen: Callable[[CellResult], None],
        note: Callable[[str], None],
        *,
        finish: Finish = finish_cell,
        ask_seconds: float = ASK_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._boards, self._listen, self._note, self._finish = tuple(boards), listen, note, finish
        self._ask, self._patience = ask_seconds, patience_seconds
        self._turn = threading.Condition()
        self._waiting: dict[str, deque[tuple[Job, CellResult]]] = {b.target.name: deque() for b in boards}
        self._held: dict[str, int] = dict.fromkeys(self._waiting, 0)
        self._closed = self._stopped = False
        self.results: dict[str, CellResult] = {}
        self._threads = [threading.Thread(target=self._serve, args=(board,), daemon=True) for board in boards]
        for thread in self._threads:
            thread.start()

    def takes(self, job: Job) -> bool:
        """Whether a board of the cell's target is in the fleet."""
        return job.target in self._waiting

    def give(self, job: Job, result: CellResult) -> None:
        """Hand on a cell whose bundle is portable."""
        with self._turn:
            self._waiting[job.target].append((job, result))
            self._turn.notify_all()

    def close(self) -> dict[str, CellResult]:
        """Wait until the boards have done what they were given; the results by the cells' names.

        What no board took keeps its portable bundle, with a warning.
        """
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(0.5)  # an interrupt comes through
        for queue in self._waiting.values():
            for job, result in queue:
                left = (*result.warnings, f"no board of the fleet that is a {job.target} took it; it is still portable")
                self.results[job.name] = dataclasses.replace(result, warnings=left)
        return self.results

    def stop(self) -> None:
        """Let no board take another cell."""
        with self._turn:
            self._stopped = self._closed = True
            self._turn.notify_all()

    def _serve(self, board: Board) -> None:
        said, since = "", time.monotonic()
        while (item := self._take(board)) is not None:
            job, result = item
            try:
                done = self._finish(board, job)
            except BoardUnavailable as exc:
                self._put_back(board, item)
                if exc.state.state != said:
                    self._note(f"{exc.message}; its cells wait, or go to a board of its kind")
                    said = exc.state.state
                if time.monotonic() - since > self._patience:
                    self._note(f"{board.name} is left out: it took no work for {self._patience / 60:.0f} minutes")
                    return
                self._pause()
                continue
            except EdgevitError as exc:
                done = dataclasses.replace(
                    result, passed=False, error=f"{board.name}: {exc.whole}", hint=exc.hint, machine=board.name
                )
            said, since = "", time.monotonic()
            self._end(board, done)

    def _take(self, board: Board) -> tuple[Job, CellResult] | None:
        """The next cell of the board's target; ``None`` where none will come any more."""
        target = board.target.name
        with self._turn:
            while not self._stopped:
                if self._waiting[target]:
                    self._held[target] += 1
                    return self._waiting[target].popleft()
                if self._closed and not self._held[target]:  # what a twin holds may come back
                    return None
                self._turn.wait()
        return None

    def _put_back(self, board: Board, item: tuple[Job, CellResult]) -> None:
        with self._turn:
            self._waiting[board.target.name].appendleft(item)
            self._held[board.target.name] -= 1
            self._turn.notify_all()

    def _pause(self) -> None:
        until = time.monotonic() + self._ask
        with self._turn:
            while not self._stopped and (left := until - time.monotonic()) > 0:
                self._turn.wait(left)

    def _end(self, board: Board, result: CellResult) -> None:
        with self._turn:
            self.results[result.name] = result
            self._held[board.target.name] -= 1
            self._turn.notify_all()
        self._listen(result)


class HandOn:
    """Gives the boards what is theirs.

    Attributes:
        results: When all is done, of the cells that were given, by their names.
        warnings: Where boards of one kind differ, a sentence each.
    """

    def __init__(self, line: BoardLine | None, jobs: Mapping[str, Job]) -> None:
        self._line, self._jobs = line, jobs
        self.results: dict[str, CellResult] = {}
        self.warnings: tuple[str, ...] = ()

    def __call__(self, result: CellResult) -> None:
        """Hand a result's cell on, where its bundle is portable and a board of its target is there."""
        job = self._jobs[result.name]
        if self._line is not None and self._line.takes(job) and is_portable(job, result):
            self._line.give(job, result)


@contextlib.contextmanager
def use_boards(
    fleet: Fleet | None, jobs: Mapping[str, Job], note: Callable[[str], None], finish: Finish = finish_cell
) -> Iterator[HandOn]:
    """Boards at work while the context lasts, which ends when they are done.

    Args:
        fleet: None has no boards, and nothing is handed on.
        jobs: Of the sweep, by their names.
        note: Told, a sentence each, what boards say and have done.
        finish: What a board does.
    """
    if fleet is None:
        yield HandOn(None, jobs)
        return
    idle = [board.name for board in fleet.boards if all(job.target != board.target.name for job in jobs.values())]
    if idle:
        note(f"no cell is for {', '.join(idle)}")

    def tell(result: CellResult) -> None:
        note(f"{result.name}: {result.error.splitlines()[0] if result.failed else f'finished on {result.machine}'}")

    line = BoardLine(fleet.boards, tell, note, finish=finish)
    hand_on = HandOn(line, jobs)
    try:
        yield hand_on
        hand_on.results = line.close()
    finally:
        line.stop()
    done = [
        jobs[name]
        for name, result in hand_on.results.items()
        if not result.failed and not is_portable(jobs[name], result)
    ]
    hand_on.warnings = list_twin_warnings(fleet.boards, done, note)


def leave_to_boards(cells: Mapping[str, Cell], fleet: Fleet | None) -> dict[str, Cell]:
    """The cells, those of a board's target as portable: the board compiles and measures them."""
    targets = {board.target.name for board in fleet.boards} if fleet is not None else set()
    return {
        name: dataclasses.replace(cell, portable=True) if load_target(cell.target).name in targets else cell
        for name, cell in cells.items()
    }


def list_twin_warnings(boards: Sequence[Board], jobs: Sequence[Job], note: Callable[[str], None]) -> tuple[str, ...]:
    """Compare the boards of each kind once, with the first finished bundle for it; a sentence for what differs.

    Args:
        boards: Of the fleet.
        jobs: Cells that boards have finished.
        note: Told where a comparison cannot be made.
    """
    warnings: list[str] = []
    for target in dict.fromkeys(board.target.name for board in boards):
        twins = [board for board in boards if board.target.name == target]
        bundle = next((job.folder / BUNDLE for job in jobs if job.target == target), None)
        if len(twins) < 2 or bundle is None:
            continue
        try:
            found = roll_out(bundle, twins)
        except EdgevitError as exc:
            note(f"the boards that are a {target} were not compared: {exc.message}")
            continue
        warnings += [text for pair in found.twins for text in pair.warnings]
    return tuple(warnings)
