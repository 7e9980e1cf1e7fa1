"""``edgevit bench``: latency of bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgevit.cli.options import check_option, key_option, on_option
from edgevit.cli.output import Output, output_options
from edgevit.core.report.timings import SYNTHETIC

if TYPE_CHECKING:
    from edgevit.measure.bench import Comparison
    from edgevit.runtime.canary import Check


@click.command("bench", short_help="Measure latency; several bundles are compared as ratios.")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="BUNDLE...")
@click.option("--runs", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="Least timed calls.")
@click.option(
    "--seconds", type=click.FloatRange(0), default=5.0, show_default=True, metavar="S", help="Least time in them."
)
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Images a call (the first bundle's best batch).")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads (chosen on the device).")
@click.option("--throughput", is_flag=True, help="Also images a second with several callers at once.")
@click.option(
    "--end-to-end",
    is_flag=False,
    flag_value=SYNTHETIC,
    metavar="[IMAGE]",
    help="Also from an image file to the answer: of IMAGE or, as the last option, of a drawn photo of 640 x 480.",
)
@click.option("--cold-start", is_flag=True, help="Also load time, first inference and memory of fresh processes.")
@check_option
@key_option
@on_option
@output_options
def command(
    output: Output,
    bundles: tuple[Path, ...],
    runs: int,
    seconds: float,
    batch: int | None,
    threads: int | None,
    throughput: bool,
    cold_start: bool,
    end_to_end: str | None,
    check: Check,
    public_key: Path | None,
    host: str | None,
) -> None:
    """Measure latency; several bundles are interleaved in one run and compared as ratios with intervals.

    Times are milliseconds a call, from uint8 pixels to float32 logits in memory.

    \b
    Examples:
      edgevit bench ./bundle
      edgevit bench ./old ./new --seconds 20
      edgevit bench ./bundle --on user@board
      edgevit bench ./bundle --end-to-end photo.jpg
      edgevit bench ./bundle --threads 1 --throughput --cold-start
    """
    from edgevit.core.errors import DataError
    from edgevit.core.schema import to_data
    from edgevit.measure.bench import bench_bundles

    with output.progress() as progress:
        if host is None:
            comparison = bench_bundles(
                bundles,
                runs=runs,
                seconds=seconds,
                batch=batch,
                settings={} if threads is None else {"threads": threads},
                throughput=throughput,
                cold_start=cold_start,
                end_to_end=end_to_end,
                check=check,
                public_key=public_key,
                progress=progress,
            )
        else:
            from edgevit.remote.measure import bench_on

            given = {"--runs": runs, "--seconds": seconds, "--batch": batch, "--threads": threads, "--check": check}
            arguments = [str(word) for pair in given.items() if pair[1] is not None for word in pair]
            arguments += [name for name, on in (("--throughput", throughput), ("--cold-start", cold_start)) if on]
            if end_to_end not in (None, SYNTHETIC):
                raise DataError(
                    f"{end_to_end} is not sent to {host}", "give --end-to-end without an image, or measure there"
                )
            arguments += ["--end-to-end"] if end_to_end else []
            comparison = bench_on(
                host, bundles, arguments, public_key=public_key, log=output.listen_to(host), progress=progress
            )
    output.document(to_data(comparison))
    _show(output, comparison)
    if host is None:  # a device has said all that itself, as it went
        _note_circumstances(output, comparison)


def _show(output: Output, comparison: Comparison) -> None:
    from edgevit.cli.tables import (
        describe_photo,
        format_bytes,
        format_interval,
        format_ms,
        make_end_to_end_table,
        make_table,
    )

    rows = comparison.bundles
    names = shorten_paths([row.bundle for row in rows])
    times = ["p50", "p90", "p99", "mean", "min"]  # the deviation is in --json
    table = make_table(["bundle", *times, "ratio", "95 %"], right={*times, "ratio", "95 %"})
    for row in rows:
        t = row.latency
        cells = [format_ms(v) for v in (t.p50_ms, t.p90_ms, t.p99_ms, t.mean_ms, t.min_ms)]
        table.add_row(
            names[row.bundle], *cells, f"{row.ratio.value:.2f}" if row.ratio else "1", format_interval(row.ratio)
        )
    output.show(table)
    answered = {names[r.bundle]: r.end_to_end for r in rows if r.end_to_end is not None}
    if answered:
        output.show("", make_end_to_end_table(answered), describe_photo(next(iter(answered.values()))))
    for row in rows:
        if row.throughput:
            images, streams = row.throughput.images_per_second, row.throughput.streams
            callers = f"{streams} caller{'s' if streams > 1 else ''}"
            output.line(f"{names[row.bundle]}: {images:.0f} images a second with {callers}")
        if row.cold_start:
            c = row.cold_start
            memory = f", peak memory {format_bytes(c.peak_memory_bytes)}" if c.peak_memory_bytes else ""
            output.line(
                f"{names[row.bundle]}: cold start: import {c.import_ms:.0f} ms, load {c.load_ms:.0f} ms, "
                f"first inference {c.first_inference_ms:.1f} ms{memory}"
            )


def _note_circumstances(output: Output, comparison: Comparison) -> None:
    from edgevit.core.report.conditions import describe_conditions, list_condition_risks
    from edgevit.measure.machine.local import list_measuring_risks

    first = comparison.bundles[0].latency
    for row in comparison.bundles:
        if row.canary is not None:
            output.note(f"{Path(row.bundle).name}: canary: {row.canary.describe()}")
    settings = ", ".join(f"{name} {value}" for name, value in first.settings.items())
    output.note(f"{first.runs} runs in {first.seconds:.1f} s, batch {first.batch}; {settings}")
    machine = comparison.machine
    output.note(f"{machine.cpu}, {machine.usable_cores} cores")
    for gpu in machine.gpus:
        output.note(f"{gpu.name}, compute capability {gpu.compute_capability}, driver of CUDA {machine.cuda_driver}")
    risks = list_measuring_risks(machine)
    if comparison.conditions is not None:
        if text := describe_conditions(comparison.conditions):
            output.note(text)
        risks += list_condition_risks(comparison.conditions)
    for risk in risks:
        output.note(f"warning: {risk}")


def shorten_paths(paths: list[str]) -> dict[str, str]:
    """Each path's folder name, where no two are the same; the paths themselves otherwise."""
    names = {path: Path(path).resolve().name for path in paths}
    return names if len(set(names.values())) == len(paths) else {path: path for path in paths}
