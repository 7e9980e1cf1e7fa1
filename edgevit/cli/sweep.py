"""``edgevit sweep``: many builds, on this machine or a cluster, and which of them is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgevit.cli.options import refuse_missing
from edgevit.cli.output import Output, output_options

if TYPE_CHECKING:
    from edgevit.remote.sweep.result import CellResult, SweepResult
    from edgevit.remote.sweep.run import Task


@click.command("sweep", short_help="Build many models for many targets, and pick the one that is wanted.")
@click.argument("plan", type=click.Path(path_type=Path), metavar="PLAN.toml")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The sweep's folder (./PLAN-sweep).")
@click.option("--address", metavar="ADDR", help="Of a Ray cluster; by default Ray is started on this machine.")
@click.option("--dry-run", is_flag=True, help="Show the cells, what is done and what each needs; nothing is built.")
@click.option("--again", is_flag=True, help="Build cells again that an error stopped earlier.")
@output_options
def command(output: Output, plan: Path, out: Path | None, address: str | None, dry_run: bool, again: bool) -> int:
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

    A sweep that was broken off goes on when it is run again: what has a result is not built twice. With --json, every
    cell that ends is a line, and the result is the last one.

    \b
    Examples:
      edgevit sweep plan.toml --dry-run
      edgevit sweep plan.toml --out ./sweep
      edgevit sweep plan.toml --out /shared/sweep --address 10.0.0.5:6379
    """
    from edgevit.remote.sweep.plan import list_cells, load_plan
    from edgevit.remote.sweep.sweep import list_jobs, make_task, sweep

    refuse_missing({"PLAN": plan})
    folder = out or plan.with_suffix("").with_name(f"{plan.stem}-sweep")
    if dry_run:
        cells = list_cells(load_plan(plan), plan.resolve().parent)
        jobs = list_jobs(cells, folder.expanduser().resolve())
        _show_cells(output, {name: (make_task(job), job.load()) for name, job in jobs.items()})
        return 0
    from edgevit.cli.sweep_progress import follow_sweep

    with follow_sweep(output) as listen:
        result = sweep(plan, out=folder, address=address, again=again, listen=listen, note=output.note)
    _show_result(output, result, folder)
    return 1 if result.failed or any(answer.chosen is None for answer in result.answers) else 0


def _show_cells(output: Output, cells: dict[str, tuple[Task, CellResult | None]]) -> None:
    from edgevit.cli.tables import format_bytes, make_table

    rows: list[dict[str, Any]] = []
    table = make_table(["cell", "state", "needs"])
    for name, (task, found) in cells.items():
        state = "to do" if found is None else "failed earlier" if found.failed else "done"
        where = "a node to itself for latencies" if task.measured else "a share of a node: its device measures"
        needs = "–" if found is not None else f"{format_bytes(task.memory_bytes)}, {where}"
        table.add_row(name, state, needs)
        rows.append({"cell": name, "state": state, "memory_bytes": task.memory_bytes, "measured": task.measured})
    output.document({"cells": rows})
    output.show(table)
    left = sum(found is None for _, found in cells.values())
    output.line(f"{len(cells)} cells, {left} to build")


def _show_result(output: Output, result: SweepResult, folder: Path) -> None:
    from edgevit.cli.tables import make_table
    from edgevit.cli.verdict import shorten_path
    from edgevit.core.schema import to_data
    from edgevit.remote.sweep.result import SWEEP_FILE

    if output.as_json:
        output.event({"event": "result", **to_data(result)})
    columns = ["cell", "precision", "top-1", "p50 ms", "p90 ms", "MB", "verdict"]
    table = make_table(columns, right=set(columns[2:6]))
    for cell in result.cells:
        figures = [cell.figures.get(name) for name in ("top1", "latency_p50_ms", "latency_p90_ms", "size_mb")]
        shown = ["–" if value is None else f"{value:.{2 if value < 100 else 1}f}" for value in figures]
        verdict = "failed" if cell.failed else "passed" if cell.passed else "missed"
        table.add_row(cell.name, cell.precision or "–", *shown, verdict)
    output.show(table, "")
    for cell in result.failed:
        output.prose(f"{cell.name}: {cell.error.splitlines()[0]}")
    for answer in result.answers:
        output.prose(answer.sentence)
    path = folder.expanduser().resolve()
    output.line(f"result: {shorten_path(path / SWEEP_FILE)}")
