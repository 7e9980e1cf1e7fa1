"""How the end of a build is shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.cli.output import Output
from edgevit.core.command import write_command

if TYPE_CHECKING:
    from edgevit.build.conclude import BuildResult
    from edgevit.core.quantization import QuantizationRecord
    from edgevit.core.report.report import Report
    from edgevit.runtime.manifest import Manifest


def show_result(output: Output, result: BuildResult) -> None:
    """The table of variants, the verdict, where the bundle lies and what to do next."""
    show_report(output, result.report)
    if result.bundle is None or result.manifest is None:
        output.line("bundle: none was written")
        return
    bundle = shorten_path(result.bundle)
    output.line(f"bundle: {bundle} ({describe_engine(result.manifest)})")
    output.line(f"next:   {suggest_next(bundle, result.manifest)}")


def show_report(output: Output, report: Report) -> None:
    """The table of variants, what was quantised, and the verdict."""
    from edgevit.build.verdict.sentences import describe_settings, describe_tiers
    from edgevit.cli.tables import make_verdict_table
    from edgevit.core.report.conditions import describe_conditions

    if report.variants:
        output.show(make_verdict_table(report), "")
    for use, data in report.data.items():
        if data.matching:
            output.show(f"{use}: {data.matching}")
    for precision, record in report.quantization.items():
        show_quantization(output, record, precision)
    for trial in report.settings_tried:
        if trial.chosen:
            alone = len({other.library for other in report.settings_tried}) == 1
            output.show(describe_settings(trial, alone=alone))
    show_end_to_end(output, report)
    alike: dict[str, list[str]] = {}
    if report.conditions is not None and (text := describe_conditions(report.conditions)):
        output.show(text)
    for variant in report.variants:
        if variant.reason and variant.status != "CHOSEN":
            alike.setdefault(variant.reason, []).append(variant.name)
    for reason, names in alike.items():
        output.show(f"{', '.join(names)}: {reason}")
    for line in describe_tiers(report):
        output.show(line)
    output.show(report.verdict.sentence)
    for warning in report.verdict.warnings:
        output.show(f"warning: {warning}")
    if report.verdict.next_step:
        output.show(report.verdict.next_step)


def show_end_to_end(output: Output, report: Report) -> None:
    """What an app waits for: by variant where there are several, and of the chosen one in a line."""
    from edgevit.build.verdict.sentences import describe_end_to_end
    from edgevit.cli.tables import describe_photo, make_end_to_end_table

    found = {v.name: v.end_to_end for v in report.variants if v.end_to_end is not None}
    if len(found) > 1:
        output.show(make_end_to_end_table(found), "")
    chosen = report.verdict.chosen
    if chosen in found:
        times = found[chosen]
        output.show(describe_end_to_end(times, chosen), describe_photo(times))


def show_quantization(output: Output, record: QuantizationRecord, precision: str) -> None:
    """How many sites are quantised, the worst of them, and those that were set back to float."""
    from edgevit.build.verdict.sentences import describe_set_back
    from edgevit.cli.tables import make_sites_table

    output.show(_count_sites(record, precision))
    found = record.set_back
    for_budget = found.sites if found is not None else ()
    alone = [name for name in record.fallback if name not in for_budget]
    if alone:
        output.show(f"{precision}: left float for the noise that they make: {', '.join(alone)}")
    if found is not None and found.sites:
        output.show(f"{precision}: {describe_set_back(found, precision)}: {', '.join(found.sites)}")
    for note in record.notes:
        output.show(f"{precision}: {note}")
    table = make_sites_table(record, precision=precision)
    if table is not None:
        output.show(table, "")


def _count_sites(record: QuantizationRecord, precision: str) -> str:
    quantized = sum(site.precision == precision for site in record.sites)
    pixels = f"{record.images:,} {'random images' if record.random else 'images'}"
    return f"{precision}: {quantized} of {len(record.sites)} sites, calibrated on {pixels}"


def shorten_path(path: Path) -> Path:
    """Relative to the current folder where it lies below it."""
    here = path.cwd()
    return path.relative_to(here) if path != here and path.is_relative_to(here) else path


def describe_engine(manifest: Manifest) -> str:
    """One line: library, device, precision, size."""
    from edgevit.build.portable import list_quantized
    from edgevit.cli.tables import format_bytes

    if manifest.engine is None:
        size = sum(file.size_bytes for file in manifest.files.values())
        graphs = " and ".join(("float", *list_quantized(manifest)))
        return f"portable, {graphs}, {format_bytes(size)}; compiled on the device"
    engine = manifest.engine
    version = engine.versions.get(engine.backend, "").partition("-")[0]  # OpenVINO's goes on with its build
    return f"{' '.join((engine.backend, version)).strip()} on {engine.device}, {manifest.precision}"


def suggest_next(bundle: Path, manifest: Manifest) -> str:
    """The command that somebody with this bundle wants to type."""
    name = Path(bundle.name)
    if manifest.engine is None:
        return (
            f"{write_command('finish', bundle, '--on', 'USER@BOARD')}\n"
            f"        or copy the folder to the device and run {write_command('finish', name)} there"
        )
    if "latency_p50_ms" not in manifest.figures:
        there = write_command("bench", name)
        return f"copy the folder to a machine with {manifest.target.device} and run {there} there"
    if manifest.for_trials or manifest.assumed:
        return write_command("bench", bundle)
    return write_command("run", bundle, "IMAGE")


def describe_result(result: BuildResult) -> dict[str, Any]:
    """The document of ``--json``."""
    from edgevit.core.schema import to_data

    return {
        "bundle": None if result.bundle is None else str(result.bundle),
        "report": to_data(result.report),
        "manifest": None if result.manifest is None else result.manifest.to_data(),
    }


def exit_status(report: Report) -> int:
    """0, or 1 where a budget was missed."""
    return 0 if report.verdict.passed else 1
