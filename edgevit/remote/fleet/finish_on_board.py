"""finish_on_board: one piece of a sweep's work, a portable bundle that becomes a finished one on a board."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgevit.build.conclude import BuildResult
from edgevit.core.errors import BundleError, DeviceError
from edgevit.core.progress import Progress, ignore_progress
from edgevit.remote.build_on import ENGINES, finish_on
from edgevit.remote.fleet.board import Board, BoardState, BoardUnavailable, is_disk_full
from edgevit.remote.fleet.probe_board import LEAST_BYTES, probe_board
from edgevit.remote.ssh_errors import OutOfReachError
from edgevit.runtime.bundle import load_bundle


def finish_on_board(
    board: Board,
    path: Path,
    *,
    out: Path,
    log: Callable[[str], None] = lambda line: None,
    progress: Progress = ignore_progress,
) -> BuildResult:
    """As :func:`edgevit.remote.build_on.finish_on`, on a board that is asked first whether it can take the work now.

    Where the connection is lost the work goes on there. The same call, with the same ``out``, finds it: while it is
    under way the board is busy, and afterwards what it made is fetched and nothing is done twice.

    Args:
        board: A board of the bundle's target.
        path: The portable bundle.
        out: The finished bundle's folder.
        log: Told every line that the board says.
        progress: Told while files are sent and fetched.

    Raises:
        BoardUnavailable: The board is busy, hot, full or gone, or was lost or filled up on the way: the work may wait,
            or move to a board of the same target.
        BundleError: The bundle is damaged, has an engine already, or is for another target than the board's.
        DeviceError: The board is not what its target says, or the work failed there; it would fail again.
    """
    bundle = load_bundle(path)
    if bundle.manifest.target.name != board.target.name:
        raise refuse_target(path, bundle.manifest.target.name, board)
    state = probe_board(board, room_bytes=ENGINES * bundle.size_bytes + LEAST_BYTES, finishes=True)
    if state.state == "wrong":
        raise DeviceError(f"{board.name}: {state.sentence}", state.hint)
    if state.state != "ready":
        raise BoardUnavailable(board.name, state)
    try:
        return finish_on(board.host, path, out=out, log=log, progress=progress)
    except OutOfReachError as exc:
        raise BoardUnavailable(board.name, BoardState("gone", exc.message.splitlines()[0], exc.hint)) from exc
    except DeviceError as exc:
        if not is_disk_full(exc):
            raise
        raise BoardUnavailable(board.name, BoardState("full", exc.message.splitlines()[0], exc.hint)) from exc


def refuse_target(path: Path, target: str, board: Board) -> BundleError:
    """The error for a bundle that is given to a board of another target."""
    return BundleError(
        f"{path} is a bundle for {target}, and {board.name} is a {board.target.name}",
        f"build one with --target {board.target.name}",
        code="device",
    )
