"""``edgevit sweep``: many builds, on this machine or a cluster, and which of them is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgevit.cli.options import refuse_missing
from edgevit.cli.output import Output, output_options
from edgevit.core.errors import MissingPackageError, OutputError, StoppedByUserError

if TYPE_CHECKING:
    from edgevit.remote.sweep.result import CellResult, SweepResult
    from edgevit.remote.sweep.run import Task

PAGE_FILE = "sweep.html"
_MOST_FAILED = 10


@click.command("sweep", short_help="Build many models for many targets, and pick the one that is wanted.")
@click.argument("plan", type=click.Path(path_type=Path), metavar="PLAN.toml")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The sweep's folder (./PLAN-sweep).")
@click.option("--address", metavar="ADDR", help="Of a Ray cluster; by default Ray is started on this machine.")
@click.option(
    "--fleet",
    "fleet_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Boards that finish and measure cells.",
)
@click.option("--dry-run", is_flag=True, help="Show the cells, what is done and what each needs; nothing is built.")
@click.option("--again", is_flag=True, help="Build cells again that an error stopped earlier.")
@output_options
def command(
    output: Output,
    plan: Path,
    out: Path | None,
    address: str | None,
    fleet_path: Path | None,
    dry_run: bool,
    again: bool,
) -> int:
    """Build many models for many targets, and pick the one that is wanted.

    PLAN.toml lists sources, targets, recipes, tasks, precisions and image sizes; each is built with each. A question
    says which cell is wanted:

    \b
      sources = ["./vit-small", "./swin-tiny"]
      targets = ["intel-cpu", "jetson"]
      calibration = "train.csv"
      validation = "val.csv"
      [question]
      want = "fastest"
      where = ["top1 >= 82", "latency_p90_ms <= 10"]

    A sweep that was broken off goes on when it is run again: what has a result is not built twice. The folder gets the
    result as sweep.json, its page sweep.html, and a link to the bundle that is wanted as chosen/TARGET. With --json,
    every cell that ends is a line, and the result is the last one.

    \b
    Examples:
      edgevit sweep plan.toml --dry-run
      edgevit sweep plan.toml --out ./sweep
      edgevit sweep plan.toml --out /shared/sweep --address 10.0.0.5:6379
      edgevit sweep plan.toml --fleet fleet.toml
    """
    from edgevit.remote.fleet.fleet import load_fleet
    from edgevit.remote.sweep.boards import leave_to_boards
    from edgevit.remote.sweep.plan import list_cells, load_plan
    from edgevit.remote.sweep.sweep import list_jobs, make_task, sweep

    refuse_missing({"PLAN": plan, "--fleet": fleet_path})
    fleet = load_fleet(fleet_path) if fleet_path is not None else None
    folder = out or plan.with_suffix("").with_name(f"{plan.stem}-sweep")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, and a sweep writes a folder", "choose another --out")
    if dry_run:
        cells = leave_to_boards(list_cells(load_plan(plan), plan.resolve().parent), fleet)
        jobs = list_jobs(cells, folder.expanduser().resolve())
        show_plan(output, {name: (make_task(job), job.load()) for name, job in jobs.items()}, again=again)
        return 0
    from edgevit.cli.sweep_progress import follow_sweep

    try:
        with follow_sweep(output) as listen:
            result = sweep(plan, out=folder, address=address, again=again, fleet=fleet, listen=listen, note=output.note)
    except KeyboardInterrupt as exc:
        raise StoppedByUserError(
            "interrupted; cells that have a result keep it", "run the same command again, and the others are built"
        ) from exc
    root = folder.expanduser().resolve()
    show_result(output, result, root, write_result_page(output, root, result))
    return 1 if result.failed or any(answer.chosen is None for answer in result.answers) else 0


def write_result_page(output: Output, root: Path, result: SweepResult) -> Path | None:
    """The page in the sweep's folder, and those of the best bundles; none, and a note, where none can be written."""
    from edgevit.cli.page.write import write_bundle_pages, write_sweep_page

    try:
        for problem in write_bundle_pages(root, result):
            output.note(f"no page: {problem}")
        write_sweep_page(root, root / PAGE_FILE)
    except (MissingPackageError, OutputError) as exc:
        output.note(f"no page: {exc.message}; {exc.hint}; then run `edgevit report`")
        return None
    return root / PAGE_FILE


def show_plan(output: Output, cells: dict[str, tuple[Task, CellResult | None]], *, again: bool = False) -> None:
    """The cells of a plan: all as JSON, the first and the counts on a screen."""
    from edgevit.cli.sweep_tables import make_plan_table
    from edgevit.core.errors import count_things

    states = {
        name: "to do" if found is None or (again and found.failed) else "failed earlier" if found.failed else "done"
        for name, (_, found) in cells.items()
    }
    output.document({"cells": [{"cell": name, "state": states[name], "memory_bytes": task.memory_bytes,
                                "measured": task.measured} for name, (task, _) in cells.items()]})  # fmt: skip
    rows = sorted(((name, states[name], task) for name, (task, _) in cells.items()), key=lambda row: row[1] != "to do")
    output.show(make_plan_table(rows, output.width))
    _count_rest(output, len(rows), "--json lists all")
    counts = [f"{number} {state}" for state in ("to do", "done", "failed earlier")
              if (number := sum(one == state for one in states.values()))]  # fmt: skip
    output.line(f"{count_things(len(cells), 'cell')}: {', '.join(counts)}")


def show_result(output: Output, result: SweepResult, root: Path, page: Path | None) -> None:
    """A table a target, what failed, and the answers; as JSON the whole result in one line."""
    from edgevit.cli.sweep_tables import make_target_table
    from edgevit.cli.verdict import shorten_path
    from edgevit.core.schema import to_data
    from edgevit.remote.sweep.chosen import CHOSEN
    from edgevit.remote.sweep.result import SWEEP_FILE

    output.event({"event": "result", "folder": str(root), "page": None if page is None else str(page),
                  **to_data(result)})  # fmt: skip
    whole = shorten_path(page or root / SWEEP_FILE)
    for target in dict.fromkeys(cell.target for cell in result.cells):
        output.line(f"{target}:")
        output.show(make_target_table(result, target, output.width))
        _count_rest(output, sum(cell.target == target for cell in result.cells), f"{whole} has all")
        output.line()
    if result.fronts:
        output.line("*: no other cell is both faster and more accurate")
    for cell in result.failed[:_MOST_FAILED]:
        output.prose(f"{cell.name}: {cell.error.splitlines()[0].rstrip(':')}")
        if cell.hint:
            output.prose(f"hint: {cell.hint}")
    if len(result.failed) > _MOST_FAILED:
        output.line(f"… and {len(result.failed) - _MOST_FAILED} more failed")
    for warning in result.warnings:
        output.prose(f"warning: {warning}")
    for answer in result.answers:
        output.prose(answer.sentence)
    if any(answer.chosen is not None for answer in result.answers):
        output.line(f"chosen: {shorten_path(root / CHOSEN)}")
    output.line(f"result: {shorten_path(root / SWEEP_FILE)}")
    if page is not None:
        output.line(f"page: {shorten_path(page)}")


def _count_rest(output: Output, count: int, where: str) -> None:
    from edgevit.cli.sweep_tables import MOST_ROWS

    if count > MOST_ROWS:
        output.line(f"… and {count - MOST_ROWS} more: {where}")
