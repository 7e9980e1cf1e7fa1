"""try_on_board: a bundle's canary and a short bench on one board, and what came of it here."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgevit.core import schema
from edgevit.core.errors import DeviceError
from edgevit.core.progress import Progress, ignore_progress
from edgevit.remote.fleet.board import Board
from edgevit.remote.fleet.trial import ANSWERS_FILE, Trial
from edgevit.remote.job import make_job, run_job
from edgevit.remote.ssh import Connection
from edgevit.runtime.bundle import Bundle
from edgevit.runtime.session import Outputs


def try_on_board(
    board: Board,
    bundle: Bundle,
    wheel: Path,
    *,
    runs: int,
    seconds: float,
    begun: Callable[[str], None] = lambda job: None,
    log: Callable[[str], None] = lambda line: None,
    progress: Progress = ignore_progress,
) -> tuple[Trial, Outputs]:
    """Send a bundle to a board, and let it do :func:`edgevit.remote.fleet.try_bundle.try_bundle`; nothing stays there.

    Where another edgevit is at work there, the board does it when its turn has come.

    Args:
        board: Of the bundle's target.
        bundle: A finished one in a folder, whose files were checked.
        wheel: edgevit itself.
        runs: Least number of timed calls.
        seconds: Least time in them.
        begun: Told the job's name before the board hears of it, so that others can end it.
        log: Told every line that the board says.
        progress: Told while files are sent and fetched.

    Raises:
        DeviceError: The board is out of reach, is not the right one, or the engine failed or does not open there.
    """
    connection = Connection(board.host)
    arguments = ["-m", "edgevit.remote.fleet.try_bundle", "input/bundle", f"output/{ANSWERS_FILE}"]
    arguments += ["--runs", str(runs), "--seconds", str(seconds)]
    job = make_job(connection, "try", arguments, {"bundle": bundle}, wheel, log)
    begun(job.name)
    with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
        try:
            data = run_job(connection, job, Path(folder), log=log, progress=progress)
        except DeviceError:  # run_job leaves what somebody may go on with; with this job nobody does
            with contextlib.suppress(DeviceError):
                connection.ask("remove", job=job.name)
            raise
        trial = schema.from_data(Trial, data, f"the answer of {board.host}", DeviceError)
        return trial, _read_answers(Path(folder) / ANSWERS_FILE, bundle, board)


def _read_answers(path: Path, bundle: Bundle, board: Board) -> Outputs:
    """The file's arrays; what a board sends is its own matter, and is read as such."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return tuple(np.asarray(arrays[str(i)], np.float32) for i in range(len(bundle.manifest.outputs)))
    except Exception as exc:  # zipfile and numpy raise whatever their parts do
        raise DeviceError(f"{board.host} sent answers that cannot be read: {exc}", "run the command again") from exc
