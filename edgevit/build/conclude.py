"""conclude: the report, the recipe and the manifest of a build or of ``edgevit finish``, each made once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgevit.build.evidence import Evidence
from edgevit.build.set_back import pin_set_back
from edgevit.build.verdict.quantized import explain_set_back, list_calibration_risks
from edgevit.build.verdict.write import Grounds, write_verdict
from edgevit.core.notes import find_shortened
from edgevit.core.quantization import RANDOM_MARK, QuantizationRecord
from edgevit.core.recipe import Choice, Recipe
from edgevit.core.report.conditions import list_condition_risks
from edgevit.core.report.report import DataUse, GraphSummary, Machine, Report, Variant
from edgevit.measure.machine.local import list_measuring_risks
from edgevit.pixels.class_names import takes_labels
from edgevit.runtime.manifest import Manifest

if TYPE_CHECKING:
    from edgevit.build.bench import Bench
    from edgevit.build.order import Order
    from edgevit.build.outcome import Outcome
    from edgevit.build.trial import GraphFile


@dataclass(frozen=True)
class BuildResult:
    """What a build left.

    Attributes:
        bundle: The bundle's folder; ``None`` where no variant computes what the model computes.
        report: Everything that was found out.
        manifest: The bundle's.
    """

    bundle: Path | None
    report: Report
    manifest: Manifest | None


@dataclass(frozen=True)
class Background:
    """What is known of the model and the machine, whatever the engines come to.

    Attributes:
        manifest: The bundle's, without an engine.
        source: The checkpoint, as plain data.
        preprocess: One line.
        base: How the float graph was made.
        machine: Where engines are measured.
        data: The image sets by use.
        notes: Defaults assumed and the like.
        before: What the build of the portable bundle found out, where this is the device.
        left: Variants that are not tried, as the build found them outside the budget.
    """

    manifest: Manifest
    source: Mapping[str, Any]
    preprocess: str
    base: GraphSummary
    machine: Machine
    data: Mapping[str, DataUse] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    before: Report | None = None
    left: tuple[Variant, ...] = ()


@dataclass(frozen=True)
class Findings:
    """What a build came to, ready to be packed.

    Attributes:
        report: Everything that was found out.
        recipe: It builds the chosen engine again; what a portable bundle leaves open is for its device to choose.
        manifest: With the chosen engine, and the figures that somebody who holds the bundle asks for first.
        evidence: Images and the float model's answers, and those of the quantised graphs.
    """

    report: Report
    recipe: Recipe
    manifest: Manifest
    evidence: Evidence


def conclude(
    outcome: Outcome, graphs: Mapping[str, GraphFile], order: Order, bench: Bench, background: Background
) -> Findings:
    """Report, recipe and manifest of what came of trying the graphs, which are given by precision."""
    before, chosen = background.before, outcome.chosen
    made = {p: graph.record for p, graph in graphs.items() if graph.record is not None}
    records = {**(before.quantization if before is not None else {}), **made}
    variants = outcome.variants
    for precision, record in made.items():
        variants = explain_set_back(variants, record, precision)
    variants += background.left
    packed = graphs.get(chosen.precision) if chosen is not None else None
    summary = packed.made if packed is not None else background.base
    grounds = Grounds(
        where=order.place.where,
        title=order.target.title,
        risks=(
            *bench.evidence.doubts,
            *outcome.risks,
            *((order.precisions.untried,) if order.precisions.untried else ()),
            *(risk for p, record in records.items() if p in graphs for risk in list_calibration_risks(record, p)),
            *(("parity was checked on generated images, as none were given",) if bench.evidence.generated else ()),
            *(list_measuring_risks(background.machine) if any(v.latency is not None for v in variants) else ()),
            *(list_condition_risks(outcome.found.conditions) if outcome.found.conditions is not None else ()),
        ),
        random=_find_random(chosen, records),
        recalled=_recall(chosen, before),
        labels=takes_labels(background.manifest.scores, background.manifest.classes),
    )
    report = Report(
        source=background.source,
        target=order.target.name,
        budget=order.budget,
        machine=background.machine,
        variants=variants,
        verdict=write_verdict(outcome.ruling, grounds),
        preprocess=background.preprocess,
        passes=summary.passes,
        op_counts=summary.op_counts,
        data=background.data,
        stages=dict(bench.stages),
        notes=background.notes,
        note_lists={**(before.note_lists if before is not None else {}), **find_shortened(background.notes)},
        quantization=records,
        settings_tried=outcome.found.settings_tried,
        fusion=outcome.rehearsal.fusion or (before.fusion if before is not None else {}),
        conditions=outcome.found.conditions,
        tiers=outcome.tiers,
        graphs={} if order.place.compiles else {"float": background.base, **{p: graphs[p].made for p in made}},
    )
    return Findings(
        report,
        _settle_recipe(outcome, graphs, order),
        _settle_manifest(outcome, report, background.manifest),
        dataclasses.replace(bench.evidence, graph_outputs=outcome.graph_outputs),
    )


def _find_random(chosen: Variant | None, records: Mapping[str, QuantizationRecord]) -> str:
    record = records.get(chosen.precision) if chosen is not None else None
    return chosen.precision if chosen is not None and record is not None and record.random else ""


def _recall(chosen: Variant | None, before: Report | None) -> Variant | None:
    """The device has no images to judge by; the build had, and judged the graph of the precision."""
    if chosen is None or before is None:
        return None
    return next((v for v in before.variants if v.name == chosen.precision and v.accuracy is not None), None)


def _settle_recipe(outcome: Outcome, graphs: Mapping[str, GraphFile], order: Order) -> Recipe:
    """With what was set back as pins: of the chosen graph or, of a portable bundle, else of the first that has any."""
    recipe, chosen, engine = order.recipe, outcome.chosen, outcome.engine
    quantized = {p: graph.record for p, graph in graphs.items() if graph.record is not None}
    pinned = quantized.get(chosen.precision) if chosen is not None else None
    if pinned is None and not order.place.compiles:
        pinned = next(iter(quantized.values()), None)
    if pinned is not None:
        recipe = pin_set_back(recipe, pinned)
    if engine is None:
        return recipe
    return dataclasses.replace(recipe, precision=cast(Choice, engine.precision), settings=engine.settings)


def _settle_manifest(outcome: Outcome, report: Report, manifest: Manifest) -> Manifest:
    variant = next((v for v in report.variants if v.name == report.verdict.chosen), None)
    if variant is None:
        return manifest
    return dataclasses.replace(
        manifest, engine=outcome.engine, precision=variant.precision, figures=_figures(variant, report)
    )


def _figures(variant: Variant, report: Report) -> dict[str, float | int | str | bool]:
    """The figures that somebody who holds the bundle asks for first; the rest is in the report."""
    latency, accuracy = variant.latency, variant.accuracy
    figures: dict[str, float | int | str | bool | None] = {
        "passed": report.verdict.passed,
        "verdict": report.verdict.sentence,
    }
    if latency is not None:
        figures |= {"latency_p50_ms": latency.p50_ms, "latency_p90_ms": latency.p90_ms}
    if accuracy is not None:
        names = ("images", "top1_percent", "drop_points", "agreement_percent", "cosine_mean")
        figures |= {name: getattr(accuracy, name) for name in names}
        figures["kept_percent"] = accuracy.kept[1] if accuracy.kept is not None else None
        figures["worst_level_sqnr_db"] = accuracy.worst_level[1] if accuracy.worst_level is not None else None
    record = report.quantization.get(variant.precision)
    if record is not None:
        figures["calibration"] = RANDOM_MARK if record.random else f"calibrated on {record.images} images"
    return {name: value for name, value in figures.items() if value is not None}
