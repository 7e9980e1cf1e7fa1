"""A driver of a sweep in a process of its own, to be killed: ``python -m tests.support.sweep_driver ROOT ADDRESS …``.

It ends with 0 where every cell has a result that stays, with 3 where the machine stopped some or the cluster is gone.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgevit.build.lock import lock_output
from edgevit.core.errors import EdgevitError
from edgevit.remote.sweep import nodes, run
from edgevit.remote.sweep.cluster import connect
from edgevit.remote.sweep.result import RESULT_FILE
from edgevit.remote.sweep.run import run_jobs
from edgevit.remote.sweep.sweep import sweep
from edgevit.remote.sweep.work import Job, build_cell, prepare_cell
from tests.support.sweep_jobs import make_steps, make_tasks

AGAIN = 3
STEPS_FILE = "steps.log"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("address")
    parser.add_argument("--plan", type=Path)
    parser.add_argument("--cells", type=int, default=0)
    parser.add_argument("--seconds", type=float, nargs=2, default=(0.1, 0.3))
    given = parser.parse_args()
    nodes.LOOK_SECONDS, nodes.SILENCE_SECONDS = 1.0, 8.0  # a test does not wait as long as people do
    try:
        if given.plan is not None:
            steps = note_steps(given.root)
            run.Steps = lambda: steps  # type: ignore[assignment,misc]
            names = [cell.name for cell in sweep(given.plan, out=given.root, address=given.address).cells]
        else:
            names = run_sleeping(given.root, given.address, given.cells, tuple(given.seconds))
    except EdgevitError as exc:
        print(exc.whole, file=sys.stderr)
        return AGAIN
    kept = [(given.root / "cells" / name / RESULT_FILE).is_file() for name in names]
    return 0 if all(kept) else AGAIN


def note_steps(root: Path) -> run.Steps:
    """The steps of real cells, each of which adds a line when it has ended."""

    def note(do: Callable[[Job], Any]) -> Callable[[Job], Any]:
        def noted(job: Job) -> Any:
            result = do(job)
            with (root / STEPS_FILE).open("a", encoding="utf-8") as stream:
                stream.write(f"{job.name}\n")
            return result

        return noted

    return run.Steps(note(prepare_cell), note(build_cell))


def run_sleeping(root: Path, address: str, cells: int, seconds: tuple[float, float]) -> list[str]:
    """Cells that sleep; gives their names."""
    tasks = make_tasks(root, cells)
    with lock_output(root):
        left = [task for task in tasks if task.job.load() is None]
        if left:
            with connect(address) as cluster:
                run_jobs(left, cluster, lambda state, result: None, steps=make_steps(*seconds))
    return [task.job.name for task in tasks]


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # a Ray whose head is gone takes a minute to say good-bye
