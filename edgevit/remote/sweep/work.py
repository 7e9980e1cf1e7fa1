"""What a worker does for a cell: fill the cache while others compute, and build it while nobody does.

Both run in Ray's workers, on any node that sees the files; what a cell comes to lies in the sweep's folder before the
driver hears of it, so that a driver that dies loses nothing. The worker of a driver that was killed may still build
while the next driver starts the same cell: whoever builds holds the cell's lock, and the other one waits for it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from edgevit.build.bench import ignore_note
from edgevit.build.build import build_model
from edgevit.build.fill_cache import fill_cache
from edgevit.build.lock import lock_output
from edgevit.core.cache import StageCache
from edgevit.core.errors import EdgevitError, OutputError
from edgevit.core.memory import collect_new_alone
from edgevit.core.report.report import Report
from edgevit.core.target import load_target
from edgevit.remote.sweep.cell import Cell
from edgevit.remote.sweep.result import BUNDLE, RESULT_FILE, CellResult, describe_report, describe_result
from edgevit.runtime.bundle import REPORT_FILE, load_bundle

Done = TypeVar("Done")

ATTEMPTS_FILE = "attempts.log"
"""A line for every time that a worker began the cell's build, and one when it ended: nothing is done twice unseen."""
NOTES_FILE = "notes.log"
"""What a step says that its driver tells, a line each."""
PATIENCE_SECONDS = 600.0
"""How long a worker waits for another one that builds the same cell. Ray ends those of a driver or a node that is gone,
but not at once."""
_ASK_SECONDS = 0.25


def find_version() -> str:
    """Of edgevit, where this is called."""
    return metadata.version("edgevit")


@dataclass(frozen=True)
class Job:
    """A cell in its sweep.

    Attributes:
        name: Of the cell.
        key: Hash of all that it depends on.
        cell: What is built.
        folder: Of the cell; its bundle and its result come there.
        version: Of the driver's edgevit, which a worker's must be.
    """

    name: str
    key: str
    cell: Cell
    folder: Path
    version: str = field(default_factory=find_version)

    @property
    def target(self) -> str:
        """The target's name."""
        return load_target(self.cell.target).name

    def load(self) -> CellResult | None:
        """What an earlier run came to, also where it died between the bundle and the result.

        ``None`` where there is nothing yet, or another process is at it.
        """
        if (found := CellResult.load(self.folder, self.key)) is not None:
            return found
        if not self._was_begun():
            return None
        try:
            with lock_output(self.folder):
                return self.recover()
        except OutputError:  # another process builds it, or the folder can only be read
            return None

    def recover(self) -> CellResult | None:
        """The same for whoever holds the cell's lock."""
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
            stream.write(f"{self.key} {what} {platform.node()} {os.getpid()} {time.time():.3f}\n")

    def note(self, text: str) -> None:
        """Say something that the driver tells when the step has ended."""
        with contextlib.suppress(OSError):  # a result that cannot be written is said elsewhere
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / NOTES_FILE).open("a", encoding="utf-8") as stream:
                stream.write(f"{platform.node()}: {' '.join(text.split())}\n")

    def read_notes(self) -> tuple[str, ...]:
        """What the last step has said."""
        try:
            return tuple((self.folder / NOTES_FILE).read_text(encoding="utf-8", errors="replace").splitlines())
        except OSError:
            return ()

    def _was_begun(self) -> bool:
        """Whether the bundle that lies there is of this very cell, not of one before the plan was changed."""
        try:
            lines = (self.folder / ATTEMPTS_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
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
    refuse_stranger(job)
    if (found := job.load()) is not None:
        return found

    def fill() -> None:
        inputs, order = job.cell.plan()
        fill_cache(inputs, order, open_cache(job))

    failed = catch_faults(job, fill)
    if failed is None:
        return None
    with hold_cell(job):
        return job.recover() or keep(job, failed)


def build_cell(job: Job) -> CellResult:
    """Build the cell, with its latencies where its target is measured on this machine.

    Raises:
        MachineFaultError: See there.
    """
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
            portable=cell.portable,
            cache=open_cache(job),
        )
        return describe_result(job.name, job.key, cell.source, job.target, built)

    return do_once(job, build)


def open_cache(job: Job) -> StageCache:
    """The node's cache. What cannot be used of a shared one is noted; waiting for another cell's stage is no news."""
    (job.folder / NOTES_FILE).unlink(missing_ok=True)  # of the step before, which was heard
    cache = StageCache(note=job.note)
    cache.note = ignore_note
    return cache


def do_once(job: Job, build: Callable[[], CellResult]) -> CellResult:
    """What an earlier or another process came to, or else ``build`` does, which is kept in the cell's folder.

    Raises:
        MachineFaultError: See there.
    """
    refuse_stranger(job)
    if (found := job.load()) is not None:
        return found
    with hold_cell(job):
        if (found := job.recover()) is not None:  # of the process that held the lock before
            return found
        tidy_cell(job)
        job.log("begun")
        return keep(job, catch_faults(job, build))


def keep(job: Job, result: CellResult) -> CellResult:
    """Write the result into the cell's folder; the caller holds the cell's lock."""
    job.folder.mkdir(parents=True, exist_ok=True)
    result.save(job.folder)
    job.log("ended")
    return result


@contextlib.contextmanager
def hold_cell(job: Job, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Hold the cell's lock; wait where another process has it, which then is building the same cell.

    Raises:
        MachineFaultError: The other process does not end, or the folder cannot be written.
    """
    until = time.monotonic() + patience
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock_output(job.folder))
                break
            except OutputError as exc:
                unwritable = exc.__cause__ is not None
                if unwritable or time.monotonic() >= until:
                    raise MachineFaultError(f"{exc.message}; {exc.hint}") from exc
            time.sleep(_ASK_SECONDS)
        try:
            yield
        except (OutputError, OSError) as exc:  # the result cannot be written
            raise MachineFaultError(str(exc)) from exc


def refuse_stranger(job: Job) -> None:
    """Refuse a node that does not see the sweep's folder, or has another edgevit: its result would be none.

    Raises:
        MachineFaultError: It is one.
    """
    if (version := find_version()) != job.version:
        raise MachineFaultError(
            f"{platform.node()} has edgevit {version}, and the sweep was started with {job.version}"
        )
    if not job.folder.parent.is_dir():
        raise MachineFaultError(f"{platform.node()} does not see {job.folder.parent}")


def tidy_cell(job: Job) -> None:
    """Take away what a process left that was killed, and the bundle of the cell as an earlier plan had it.

    That bundle would be taken for this one's. The caller holds the cell's lock.
    """
    if not job.folder.is_dir():
        return
    bundle = job.folder / BUNDLE
    if bundle.is_dir():
        os.replace(bundle, bundle.with_name(f".{BUNDLE}.{secrets.token_hex(4)}"))  # at once: nobody finds half of it
    for pattern in (f".{BUNDLE}.*", f".{RESULT_FILE}.*"):
        for left in job.folder.glob(pattern):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def catch_faults(job: Job, do: Callable[[], Done]) -> Done | CellResult:
    """What ``do`` gives; an error of the cell is its result.

    Raises:
        MachineFaultError: The machine stopped it.
    """
    try:
        with collect_new_alone():  # a worker is a program of edgevit's own, and torch's objects stay in it
            return do()
    except OutputError as exc:
        raise MachineFaultError(f"{exc.message}; {exc.hint}") from exc
    except EdgevitError as exc:
        return job.fail(exc)
    except (MemoryError, OSError) as exc:
        raise MachineFaultError(f"{type(exc).__name__}: {exc}") from exc
