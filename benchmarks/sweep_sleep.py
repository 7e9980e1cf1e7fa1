"""Cells of a sweep that sleep recorded durations: what a worker runs, which imports nothing of a build."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.core.errors import EdgevitError
from edgevit.remote.sweep.result import CellResult

STEPS_FILE = "steps.log"


class NoFiles:
    """What a job of a bench has for a cell: it names no files."""

    def list_files(self) -> dict[str, Path]:
        return {}


@dataclass(frozen=True)
class SleepingJob:
    """Stands for :class:`edgevit.remote.sweep.work.Job`.

    Attributes:
        name: Of the cell.
        folder: Of the cell.
        prepare_seconds: What its first step sleeps.
        build_seconds: What its second one does.
    """

    name: str
    folder: Path
    prepare_seconds: float
    build_seconds: float
    cell = NoFiles()

    def read_notes(self) -> tuple[str, ...]:
        return ()

    def fail(self, exc: EdgevitError) -> CellResult:
        return CellResult(self.name, self.name, "sleep", "sleep", error=exc.whole, hint=exc.hint)


def prepare(job: SleepingJob) -> None:
    time.sleep(job.prepare_seconds)


def build(job: SleepingJob) -> CellResult:
    """Sleep, and leave a result as a build does."""
    time.sleep(job.build_seconds)
    result = CellResult(job.name, job.name, "sleep", "sleep", passed=True)
    job.folder.mkdir(parents=True)
    result.save(job.folder)
    return result


def draw_jobs(folder: Path, durations: Sequence[tuple[float, float]], count: int, scale: float) -> list[SleepingJob]:
    """So many cells with recorded durations times ``scale``, in an order that is drawn from a fixed seed."""
    chance = random.Random(0)
    drawn = [durations[i % len(durations)] for i in range(count)]
    chance.shuffle(drawn)
    return [
        SleepingJob(f"{i:05d}", folder / "cells" / f"{i:05d}", a * scale, b * scale) for i, (a, b) in enumerate(drawn)
    ]


def note_step(folder: Path, step: str, name: str, seconds: float, **more: float) -> None:
    """Add how long a real step took."""
    line = {"step": step, "name": name, "seconds": seconds, "pid": os.getpid(), **more}
    with (folder / STEPS_FILE).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def read_steps(folder: Path) -> list[dict[str, Any]]:
    """What :func:`note_step` wrote."""
    return [json.loads(line) for line in (folder / STEPS_FILE).read_text(encoding="utf-8").splitlines()]


def read_resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
