"""roll_out: a finished bundle on every board of a fleet, its canary and a short bench, and nothing left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from edgevit.core.errors import BundleError, DeviceError, EdgevitError
from edgevit.core.progress import Progress, ignore_progress
from edgevit.remote.fleet.board import Board, State, is_disk_full
from edgevit.remote.fleet.finish_on_board import refuse_target
from edgevit.remote.fleet.probe_board import LEAST_BYTES, probe_board
from edgevit.remote.fleet.trial import Trial
from edgevit.remote.fleet.try_on_board import try_on_board
from edgevit.remote.fleet.twins import TwinComparison, compare_twins
from edgevit.remote.ssh import Connection
from edgevit.remote.ssh_errors import OutOfReachError
from edgevit.remote.wheel import pack_wheel
from edgevit.runtime.bundle import Bundle, load_bundle, verify_bundle
from edgevit.runtime.pack_file import lend_folder
from edgevit.runtime.session import Outputs

RUNS, SECONDS = 40, 2.0
"""Least timed calls on a board, and least time in them."""
MOST_AT_ONCE = 32
"""Boards, each with a thread and an ssh of its own; the others wait for one of these."""

Outcome: TypeAlias = Literal["passed", "failed", "error", "refused", "not tried"]


@dataclass(frozen=True)
class BoardRow:
    """What came of a bundle on one board.

    Attributes:
        board: Its name.
        host: What ``ssh`` takes.
        target: Its target's name.
        state: As it was before; ``None`` where it was not asked.
        outcome: ``passed`` and ``failed`` are the canary's. ``error``: the engine does not open there, or the work
            failed. ``refused``: the bundle is for another target, and was not sent. ``not tried``: the board is gone,
            full or wrong.
        sentence: What was seen.
        hint: What to do about it; empty where nothing is to be done.
        trial: What the board found.
        low_ms: Lower end of the 95 % interval of the latency's median, over rounds.
        high_ms: Its upper end.
        against_build: The median over the one that the bundle carries; ``None`` where it carries none.
    """

    board: str
    host: str
    target: str
    state: State | None
    outcome: Outcome
    sentence: str
    hint: str = ""
    trial: Trial | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    against_build: float | None = None


@dataclass(frozen=True)
class Rollout:
    """A bundle on a fleet.

    Attributes:
        bundle: As it was given.
        target: Its target's name.
        passed: Whether the canary passed on every board of that target.
        built_ms: The median that the bundle carries.
        boards: In the fleet's order.
        twins: Boards of the target, compared.
    """

    bundle: str
    target: str
    passed: bool
    built_ms: float | None
    boards: tuple[BoardRow, ...]
    twins: tuple[TwinComparison, ...] = ()


@dataclass
class _Work:
    """What all threads share."""

    path: Path  # as it was given: a packed bundle lies in a temporary folder
    bundle: Bundle
    wheel: Path
    runs: int
    seconds: float
    jobs: dict[str, str] = field(default_factory=dict)  # by host, those under way
    stopped: threading.Event = field(default_factory=threading.Event)


def roll_out(
    path: str | os.PathLike[str],
    boards: Sequence[Board],
    *,
    runs: int = RUNS,
    seconds: float = SECONDS,
    public_key: str | os.PathLike[str] | None = None,
    log: Callable[[str, str], None] = lambda board, line: None,
    progress: Progress = ignore_progress,
) -> Rollout:
    """Try a bundle on boards at the same time, each in a thread of its own, and compare those of a kind.

    A busy or hot board is tried too: its answers count, and its state stands beside its latency. Where another edgevit
    is at work, the board does it when its turn has come. On a board only edgevit's cache folder is written to. An
    interrupt ends the jobs on all boards and removes them.

    Args:
        path: A finished bundle with a canary.
        boards: Of a fleet.
        runs: Least number of timed calls on each.
        seconds: Least time in them.
        public_key: Of whoever has to have signed the bundle; what that key did not sign is not sent.
        log: Told the board's name and every line that it says.
        progress: Told when a board is done, and while files are sent.

    Raises:
        BundleError: The bundle is damaged, not signed with that key or portable, has no canary, or is for none of the
            boards. Nothing is sent.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(lend_folder(path, public_key))
        bundle = verify_bundle(load_bundle(folder, public_key=public_key))
        target = bundle.manifest.target.name
        _refuse_bundle(path, bundle, boards)
        work = _Work(Path(path), bundle, stack.enter_context(pack_wheel()), runs, seconds)
        tell = _Tell(log, progress, len(boards), work.stopped)
        done = dict(_try_all(work, boards, tell))
    built = bundle.manifest.figures.get("latency_p50_ms")
    built_ms = float(built) if isinstance(built, int | float) and not isinstance(built, bool) and built > 0 else None
    rows = [_add_figures(done[board.name][0], built_ms) for board in boards]
    tried = {row.board: (row.trial, done[row.board][1]) for row in rows if row.trial is not None}
    passed = all(row.outcome in ("passed", "refused") for row in rows)
    return Rollout(str(path), target, passed, built_ms, tuple(rows), compare_twins(tried))


def _refuse_bundle(path: str | os.PathLike[str], bundle: Bundle, boards: Sequence[Board]) -> None:
    target = bundle.manifest.target.name
    bundle.engine  # noqa: B018 - asking for it refuses a portable bundle
    if bundle.manifest.canary is None:
        raise BundleError(
            f"{path} has no canary: nothing tells what its engine has to answer", "build it again with this edgevit"
        )
    if all(board.target.name != target for board in boards):
        there = ", ".join(dict.fromkeys(board.target.name for board in boards))
        raise BundleError(
            f"{path} is a bundle for {target}, and none of the boards is one: they are {there}",
            f"build it for one of these, or name a fleet with a board of the target {target}",
            code="device",
        )


class _Tell:
    """Log and progress of several threads, one at a time; a thread that is to stop learns it here.

    It is interrupted then as the main thread was, so that what it does on its board is ended and removed.
    """

    def __init__(
        self, log: Callable[[str, str], None], progress: Progress, boards: int, stopped: threading.Event
    ) -> None:
        self._log, self._progress, self._boards, self._stopped = log, progress, boards, stopped
        self._lock, self._done = threading.Lock(), 0
        progress("boards", 0, boards)

    def log(self, board: str, line: str) -> None:
        self.refuse_stopped()
        with self._lock:
            self._log(board, line)

    def progress(self, stage: str, done: int, total: int) -> None:
        self.refuse_stopped()
        with self._lock:
            self._progress(stage, done, total)

    def end(self) -> None:
        with self._lock:
            self._done += 1
            self._progress("boards", self._done, self._boards)

    def refuse_stopped(self) -> None:
        if self._stopped.is_set():
            raise KeyboardInterrupt


def _try_all(work: _Work, boards: Sequence[Board], tell: _Tell) -> Iterator[tuple[str, tuple[BoardRow, Outputs]]]:
    with ThreadPoolExecutor(min(len(boards), MOST_AT_ONCE), thread_name_prefix="edgevit-board") as pool:
        futures = {pool.submit(_try_one, work, board, tell): board.name for board in boards}
        try:
            for future in as_completed(futures):
                tell.end()
                yield futures[future], future.result()
        except BaseException:
            work.stopped.set()
            for future in futures:
                future.cancel()
            for host, job in dict(work.jobs).items():  # whose threads then end by themselves
                with contextlib.suppress(EdgevitError):
                    Connection(host).ask("remove", job=job)
            raise


def _try_one(work: _Work, board: Board, tell: _Tell) -> tuple[BoardRow, Outputs]:
    row = BoardRow(board.name, board.host, board.target.name, None, "not tried", "")
    log = functools.partial(tell.log, board.name)
    target = work.bundle.manifest.target.name
    if board.target.name != target:
        error = refuse_target(work.path, target, board)
        return dataclasses.replace(row, outcome="refused", sentence=error.message, hint=error.hint), ()
    state = probe_board(board, room_bytes=work.bundle.size_bytes + LEAST_BYTES)
    row = dataclasses.replace(row, state=state.state, sentence=state.sentence, hint=state.hint)
    if state.state != "ready":
        log(f"{state.state}: {state.sentence}")
    if state.state not in ("ready", "busy", "hot"):
        return row, ()

    def begin(job: str) -> None:
        work.jobs[board.host] = job
        tell.refuse_stopped()

    try:
        trial, answers = try_on_board(
            board,
            work.bundle,
            work.wheel,
            runs=work.runs,
            seconds=work.seconds,
            begun=begin,
            log=log,
            progress=lambda stage, done, total: tell.progress(f"{board.name}: {stage}", done, total),
        )
    except OutOfReachError as exc:
        return dataclasses.replace(row, state="gone", sentence=exc.message, hint=exc.hint), ()
    except EdgevitError as exc:
        full = isinstance(exc, DeviceError) and is_disk_full(exc)
        lost = dataclasses.replace(row, state="full") if full else dataclasses.replace(row, outcome="error")
        return dataclasses.replace(lost, sentence=exc.message.removeprefix(f"{board.host}: "), hint=exc.hint), ()
    finally:
        work.jobs.pop(board.host, None)
    passed = trial.canary.status == "passed"
    sentence = row.sentence if passed else f"canary {trial.canary.describe()}"
    return dataclasses.replace(row, outcome="passed" if passed else "failed", sentence=sentence, trial=trial), answers


def _add_figures(row: BoardRow, built_ms: float | None) -> BoardRow:
    if row.trial is None or row.trial.latency is None:
        return row
    low, high = row.trial.interval_ms or (None, None)
    ratio = row.trial.latency.p50_ms / built_ms if built_ms is not None else None
    return dataclasses.replace(row, low_ms=low, high_ms=high, against_build=ratio)
