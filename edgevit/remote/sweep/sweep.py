"""sweep: many builds, and which of them is wanted."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from edgevit.build.lock import lock_output
from edgevit.build.order import find_place
from edgevit.core import schema
from edgevit.core.errors import BundleError
from edgevit.core.target import load_target
from edgevit.remote.fleet.fleet import Fleet
from edgevit.remote.sweep.boards import leave_to_boards, use_boards
from edgevit.remote.sweep.cell import Cell
from edgevit.remote.sweep.chosen import link_chosen
from edgevit.remote.sweep.cluster import Cluster, connect
from edgevit.remote.sweep.plan import Plan, list_cells, load_plan
from edgevit.remote.sweep.question import answer_question, find_front
from edgevit.remote.sweep.result import RESULT_FILE, CellResult, SweepResult
from edgevit.remote.sweep.run import Listen, State, Task, estimate_memory, run_jobs
from edgevit.remote.sweep.work import Job

CELLS = "cells"


def sweep(
    plan: Plan | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    address: str | None = None,
    again: bool = False,
    fleet: Fleet | None = None,
    listen: Listen = lambda state, result: None,
    note: Callable[[str], None] = lambda text: None,
) -> SweepResult:
    """Build every cell of a plan, and answer its question.

    A sweep that was broken off goes on when it is called again with the same ``out``: cells that have a
    result are not built again.

    Args:
        plan: A plan or its file, whose folder its paths are relative to.
        out: The sweep's folder: ``sweep.json``, a folder of every cell in ``cells``, and in ``chosen`` a link to the
            bundle that is wanted for each target.
        address: Of a Ray cluster, all of whose nodes see the same files; by default Ray is started on this machine.
        again: Build cells again that an error stopped earlier.
        fleet: Boards, which finish and measure the cells of their targets, one at a time on each.
        listen: Told how far it is.
        note: Told, a sentence each, what happens.

    Raises:
        RecipeError: The plan is not valid; everything that is wrong with it is listed.
        MissingPackageError: Ray is not installed.
        DeviceError: The cluster does not answer, or is gone.
        OutputError: ``out`` cannot be written, or another sweep writes it.
    """
    folder = "."
    if not isinstance(plan, Plan):
        folder, plan = os.path.dirname(os.path.abspath(plan)), load_plan(plan)
    cells = leave_to_boards(list_cells(plan, folder), fleet)
    root = Path(out).expanduser().resolve()
    jobs = list_jobs(cells, root)
    with lock_output(root), _made(root):
        found = {name: job.load() for name, job in jobs.items()}
        kept = {name: r for name, r in found.items() if r is not None and not (again and r.failed)}
        if again:
            forget_failed([job for name, job in jobs.items() if name not in kept])
        if kept:
            note(f"{len(kept)} of {len(jobs)} cells have a result already")
        tasks = [make_task(job) for name, job in jobs.items() if name not in kept]
        machines: Mapping[str, int] = {}
        with use_boards(fleet, jobs, note) as hand_on:
            for ended in kept.values():
                hand_on(ended)

            def hear(state: State, result: CellResult | None) -> None:
                listen(state, result)
                if result is not None:
                    hand_on(result)

            if tasks:
                with connect(address) as cluster:
                    machines = _count_machines(cluster)
                    for ended in run_jobs(tasks, cluster, hear, done=len(kept), note=note):
                        kept[ended.name] = ended
        kept.update(hand_on.results)
        earlier = _load_earlier(root)
        machines = machines or (earlier.machines if earlier is not None else {})
        warnings = hand_on.warnings or (earlier.warnings if earlier is not None and fleet is not None else ())
        result = conclude_sweep(plan, [kept[name] for name in jobs], machines, warnings)
        result.save(root)
        link_chosen(result, root)
    return result


@contextlib.contextmanager
def _made(root: Path) -> Iterator[None]:
    """A sweep's folder; one that was not there before goes again where nothing was written."""
    was_there = root.exists()
    root.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if not was_there:
            with contextlib.suppress(OSError):  # it is not empty
                root.rmdir()


def list_jobs(cells: Mapping[str, Cell], root: Path) -> dict[str, Job]:
    """The cells in a sweep's folder, each with the hash of what it depends on."""
    prints: dict[str, str] = {}
    return {name: Job(name, cell.identify(prints), cell, root / CELLS / name) for name, cell in cells.items()}


def make_task(job: Job) -> Task:
    """What a cell's steps need."""
    source = job.cell.list_files().get("source")
    files = () if source is None else source.rglob("*") if source.is_dir() else (source,)
    size = sum(path.stat().st_size for path in files if path.is_file())
    place = find_place(load_target(job.cell.target), portable=job.cell.portable)
    return Task(job, place.measures, estimate_memory(size))


def forget_failed(jobs: list[Job]) -> None:
    """Remove the results of cells that an error stopped, so that workers do not find them."""
    for job in jobs:
        found = CellResult.load(job.folder, job.key)
        if found is not None and found.failed:
            (job.folder / RESULT_FILE).unlink(missing_ok=True)


def conclude_sweep(
    plan: Plan, results: list[CellResult], machines: Mapping[str, int], warnings: tuple[str, ...] = ()
) -> SweepResult:
    """The sweep's result from those of its cells."""
    targets = dict.fromkeys(r.target for r in results)
    fronts = {target: find_front([r for r in results if r.target == target]) for target in targets}
    return SweepResult(
        plan=schema.to_data(plan),
        question=plan.question,
        cells=tuple(results),
        answers=answer_question(plan.question, results),
        fronts={target: front for target, front in fronts.items() if front},
        machines=machines,
        warnings=warnings,
    )


def _load_earlier(root: Path) -> SweepResult | None:
    """What an earlier run found out, of which a run with nothing left to build keeps machines and warnings."""
    try:
        return SweepResult.load(root)
    except BundleError:
        return None


def _count_machines(cluster: Cluster) -> dict[str, int]:
    counts = Counter(f"{cpus} CPU{'s' if cpus > 1 else ''}" for cpus in cluster.cpus.values())
    return dict(counts)
