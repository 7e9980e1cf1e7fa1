"""``edgevit rollout``: a bundle on every board of a fleet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgevit.cli.options import key_option
from edgevit.cli.output import Output, output_options

if TYPE_CHECKING:
    from edgevit.remote.fleet.rollout import BoardRow, Rollout


@click.command("rollout", short_help="Try a bundle on every board of a fleet; installs nothing.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--fleet", "fleet_path", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The boards, a TOML."
)
@click.option("--boards", "names", multiple=True, metavar="NAME", help="Only this board; may be repeated.")
@click.option("--label", "labels", multiple=True, metavar="L", help="Only boards with this label; with all of several.")
@click.option("--runs", type=click.IntRange(1), default=40, show_default=True, metavar="N", help="Least timed calls.")
@click.option(
    "--seconds", type=click.FloatRange(0), default=2.0, show_default=True, metavar="S", help="Least time in them."
)
@key_option
@output_options
def command(
    output: Output,
    bundle: Path,
    fleet_path: Path,
    names: tuple[str, ...],
    labels: tuple[str, ...],
    runs: int,
    seconds: float,
    public_key: Path | None,
) -> int:
    """Let every board of a fleet answer a bundle's canary, and time the bundle there for a short while.

    The boards work at the same time, each reached by ssh. What is sent lies in edgevit's cache folder and is deleted
    at the end. Boards of one kind are compared.

    Exit status: 0 passed on every board of the bundle's target, 1 failed on one, or one could not be tried, 2 the
    bundle or the fleet's file cannot be used.

    \b
    Examples:
      edgevit rollout ./bundle --fleet fleet.toml
      edgevit rollout ./bundle --fleet fleet.toml --label kitchen --json
      edgevit rollout ./bundle --fleet fleet.toml --boards pi-1 --boards pi-2
    """
    from edgevit.core.schema import to_data
    from edgevit.remote.fleet.fleet import load_fleet
    from edgevit.remote.fleet.rollout import roll_out

    boards = load_fleet(fleet_path).select(names, labels)
    with output.progress() as progress:
        rollout = roll_out(
            bundle,
            boards,
            runs=runs,
            seconds=seconds,
            public_key=public_key,
            log=lambda board, line: output.note(f"{board}: {line}"),
            progress=progress,
        )
    output.document(to_data(rollout))
    _show(output, rollout)
    return 0 if rollout.passed else 1


def _show(output: Output, rollout: Rollout) -> None:
    from edgevit.cli.tables import MISSING, format_ms, format_optional, make_table

    numbers = ("p50", "95 %", "p90", "ratio")
    table = make_table(["board", "host", "target", "state", "canary", *numbers], right=numbers, gap=1)
    for row in rollout.boards:
        latency = row.trial.latency if row.trial is not None else None
        p50, p90 = (format_ms(latency.p50_ms), format_ms(latency.p90_ms)) if latency else (MISSING, MISSING)
        interval = MISSING
        if row.low_ms is not None and row.high_ms is not None:
            interval = f"{format_ms(row.low_ms)}–{format_ms(row.high_ms)}"
        ratio = format_optional(row.against_build, ".2f")
        names = (row.board, row.host, row.target, row.state or MISSING, row.outcome)
        table.add_row(*names, p50, interval, p90, ratio)
    output.show(table)
    for text in [text for row in rollout.boards for text in _explain(row)]:
        output.prose(text)
    for text in (warning for pair in rollout.twins for warning in pair.warnings):
        output.prose(f"warning: {text}")
    if rollout.built_ms is not None:
        output.note(f"ratio: p50 over the bundle's own {format_ms(rollout.built_ms)} ms")


def _explain(row: BoardRow) -> list[str]:
    """Why a board's row is not simply passed."""
    if row.outcome == "passed" and row.state == "ready":
        return []
    where = f"{row.board}: " + (f"{row.state}: " if row.state not in (None, "ready") else "")
    first, *further = row.sentence.split("\n")
    weak = "; its latency says little" if row.outcome == "passed" else ""
    hint = [f"  hint: {row.hint}"] if row.hint else []
    return [f"{where}{first}{weak}", *further, *hint]
