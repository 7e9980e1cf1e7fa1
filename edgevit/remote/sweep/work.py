"""What a worker does for a cell: fill the cache while others compute, and build it while nobody does.

Both run in Ray's workers, on any node that sees the files; what a cell comes to lies in the sweep's folder before the
driver hears of it, so that a driver that dies loses nothing.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgevit.build.build import build_model
from edgevit.build.fill_cache import fill_cache
from edgevit.core.cache import StageCache
from edgevit.core.errors import EdgevitError, OutputError
from edgevit.core.report.report import Report
from edgevit.core.target import load_target
from edgevit.remote.sweep.cell import Cell
from edgevit.remote.sweep.result import BUNDLE, CellResult, describe_report, describe_result
from edgevit.runtime.bundle import REPORT_FILE, load_bundle

Done = TypeVar("Done")

ATTEMPTS_FILE = "attempts.log"
"""A line for every time that a worker began the cell's build, and one when it ended: nothing is done twice unseen."""


@dataclass(frozen=True)
class Job:
    """A cell in its sweep.

    Attributes:
        name: Of the cell.
        key: Hash of all that it depends on.
        cell: What is built.
        folder: Of the cell; its bundle and its result come there.
    """

    name: str
    key: str
    cell: Cell
    folder: Path

    @property
    def target(self) -> str:
        """The target's name."""
        return load_target(self.cell.target).name

    def load(self) -> CellResult | None:
        """What an earlier run came to, also where it died between the bundle and the result."""
        if (found := CellResult.load(self.folder, self.key)) is not None:
            return found
        if not self._was_begun():
            return None
        try:
            report = Report.load(load_bundle(self.folder / BUNDLE).path / REPORT_FILE)
        except (EdgevitError, OSError):
            return None
        return keep(self, describe_report(self.name, self.key, self.cell.source, self.target, report, bundle=True))

    def fail(self, exc: EdgevitError) -> CellResult:
        """The result of a cell that an error stopped."""
        where = platform.node()
        return CellResult(
            self.name, self.key, self.target, self.cell.source, error=exc.whole, hint=exc.hint, machine=where
        )

    def log(self, what: str) -> None:
        """Add a line to the cell's list of attempts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ATTEMPTS_FILE).open("a", encoding="utf-8") as stream:
            stream.write(f"{self.key} {what} {os.getpid()} {time.time():.3f}\n")

    def _was_begun(self) -> bool:
        """Whether the bundle that lies there is of this very cell, not of one before the plan was changed."""
        try:
            lines = (self.folder / ATTEMPTS_FILE).read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        begun = [line.split()[0] for line in lines if " begun " in line]
        return bool(begun) and begun[-1] == self.key


class MachineFaultError(Exception):
    """Something of the machine, not of the cell, stopped it: memory, the disk, another build at the same place."""


def prepare_cell(job: Job) -> CellResult | None:
    """Everything but latencies to the cache; a result only where an error stops the cell.

    Raises:
        MachineFaultError: See there.
    """
    if (found := job.load()) is not None:
        return found

    def fill() -> None:
        inputs, order = job.cell.plan()
        fill_cache(inputs, order, StageCache())

    return _catch(job, fill)


def build_cell(job: Job) -> CellResult:
    """Build the cell, with its latencies where its target is measured on this machine.

    Raises:
        MachineFaultError: See there.
    """
    if (found := job.load()) is not None:
        return found
    remove_other(job)
    job.log("begun")
    cell = job.cell

    def build() -> CellResult:
        built = build_model(
            cell.source,
            load_target(cell.target),
            out=job.folder / BUNDLE,
            recipe=cell.read_recipe(),
            budget=cell.budget,
            calibration=cell.calibration,
            validation=cell.validation,
            arch=cell.arch,
            weights=cell.weights,
            labels=None if cell.labels is None else Path(cell.labels),
            templates=None if cell.templates is None else Path(cell.templates),
            skip_bad_images=cell.skip_bad_images,
            accept_chance=cell.accept_chance,
        )
        return keep(job, describe_result(job.name, job.key, cell.source, job.target, built))

    return _catch(job, build)


def keep(job: Job, result: CellResult) -> CellResult:
    """Write the result into the cell's folder."""
    job.folder.mkdir(parents=True, exist_ok=True)
    result.save(job.folder)
    job.log("ended")
    return result


def remove_other(job: Job) -> None:
    """Take away the bundle of the cell as an earlier plan had it: it would be taken for this one's."""
    bundle = job.folder / BUNDLE
    if bundle.is_dir():
        aside = bundle.with_name(f".{BUNDLE}.{os.getpid()}")
        os.replace(bundle, aside)  # at once, so that nobody finds half of it
        shutil.rmtree(aside, ignore_errors=True)


def _catch(job: Job, do: Callable[[], Done]) -> Done | CellResult:
    """What ``do`` gives; an error of the cell is its result, which is kept, and one of the machine is not."""
    try:
        return do()
    except OutputError as exc:
        raise MachineFaultError(f"{exc.message}; {exc.hint}") from exc
    except EdgevitError as exc:
        return keep(job, job.fail(exc))
    except (MemoryError, OSError) as exc:
        raise MachineFaultError(f"{type(exc).__name__}: {exc}") from exc
