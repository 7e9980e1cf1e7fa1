"""What a build and ``edgevit finish`` end with: choose by measurement, say where it was measured, pack the bundle."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from edgevit.build.canary import make_canary
from edgevit.build.evidence import Evidence
from edgevit.build.libraries import add_libraries
from edgevit.build.lock import OutputLock
from edgevit.build.pack import pack_bundle
from edgevit.build.precisions import Arithmetic, list_arithmetics
from edgevit.build.rehearsal import list_fusion_warnings, read_fusion
from edgevit.build.tier_process import run_under
from edgevit.build.tiers import add_judgements, describe_plan, plan_tiers
from edgevit.build.trial import GraphFile, refuse_trial
from edgevit.build.try_engines import SearchResult, search_recipe
from edgevit.build.verdict.choose import choose_variant
from edgevit.core.cache import StageCache
from edgevit.core.errors import DeviceError
from edgevit.core.isa import TierName, read_tier
from edgevit.core.progress import Progress
from edgevit.core.quantization import RANDOM_MARK
from edgevit.core.recipe import Choice as PrecisionChoice
from edgevit.core.recipe import Recipe
from edgevit.core.report.conditions import list_condition_risks
from edgevit.core.report.place import CANARY_FILE
from edgevit.core.report.report import Accuracy, Machine, Report, Variant, Verdict
from edgevit.core.target import Budget, Target
from edgevit.measure.cold_start import measure_cold_start
from edgevit.measure.machine.local import list_measuring_risks
from edgevit.runtime.bundle import RECIPE_FILE, REPORT_FILE
from edgevit.runtime.manifest import Manifest


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
class Choice:
    """What was tried on this machine, and what came of it.

    Attributes:
        found: Trials, latencies and conditions.
        variants: Judged, in the order of the table.
        verdict: By measured latency.
        tiers: By instruction set, the variants as they were judged under it, where it is not this process's own alone.
    """

    found: SearchResult
    variants: tuple[Variant, ...]
    verdict: Verdict
    tiers: Mapping[str, tuple[Variant, ...]]


def choose_and_start(
    graphs: Mapping[str, GraphFile],
    target: Target,
    recipe: Recipe,
    budget: Budget,
    evidence: Evidence,
    cache: StageCache,
    *,
    labels: Sequence[str] | None,
    progress: Progress,
) -> Choice:
    """Try every graph on this machine, choose by measured latency, and start the chosen one in fresh processes.

    Where the target names instruction sets, this happens under them, in processes of their own.

    Args:
        graphs: By precision.
        target: What is built for.
        recipe: Batch, engine settings, and how long to measure.
        budget: What a faster variant may cost.
        evidence: Images and the float model's answers.
        cache: Where compiled engines are kept.
        labels: Names of the classes.
        progress: Told about every stage.
    """
    plan = plan_tiers(target)
    arithmetics = list_arithmetics(tuple(graphs), target, recipe, plan.floats)
    tried = {name: _choose_floats(graphs[a.precision], a, first=name == a.precision) for name, a in arithmetics.items()}
    added, absent = add_libraries(graphs, target, recipe, plan.floats)
    tried |= added
    info = find_model_info(target, evidence, labels)
    arguments = (tried, target, recipe, evidence, cache)
    found = run_under(plan.ranked, search_recipe, *arguments, model_info=info, progress=progress)
    tiers: dict[TierName, tuple[Variant, ...]] = {
        tier: _judge_elsewhere(tier, *arguments, model_info=info, progress=progress) for tier in plan.others
    }
    for trial in found.trials:
        if trial.engine is not None:
            cache.hold(trial.engine.directory)  # another process may have made it
    variants, verdict = choose_variant(
        add_judgements([t.variant for t in found.trials], tiers, budget),
        budget,
        preference=target.precisions,
        ratio=found.comparison.ratio if found.comparison is not None else None,
    )
    warnings = (*verdict.warnings, *absent, *describe_plan(plan, target), *list_fusion_warnings(read_fusion(found)))
    verdict = dataclasses.replace(verdict, warnings=warnings)
    engine = next((t.engine for t in found.trials if t.variant.name == verdict.chosen), None)
    if engine is not None:
        progress("cold start", 0, 1)
        cold = measure_cold_start(engine.directory, settings=engine.settings, tier=plan.ranked)
        progress("cold start", 1, 1)
        variants = tuple(dataclasses.replace(v, cold_start=cold) if v.name == verdict.chosen else v for v in variants)
    judged: dict[str, tuple[Variant, ...]] = {str(tier): under for tier, under in tiers.items()}
    if judged or plan.ranked != read_tier():
        judged = {str(plan.ranked): tuple(t.variant for t in found.trials), **judged}
    return Choice(found, variants, verdict, judged)


def _choose_floats(graph: GraphFile, arithmetic: Arithmetic, *, first: bool) -> GraphFile:
    """Figures of an earlier trial are those of the precision's first variant."""
    return dataclasses.replace(
        graph, precision=arithmetic.precision, floats=arithmetic.floats, trial=graph.trial if first else None
    )


def _judge_elsewhere(
    tier: TierName, graphs: Mapping[str, GraphFile], *arguments: Any, progress: Progress, **options: Any
) -> tuple[Variant, ...]:
    graphs = {name: dataclasses.replace(graph, trial=None) for name, graph in graphs.items()}
    try:
        found = run_under(tier, search_recipe, graphs, *arguments, measure=False, progress=progress, **options)
    except DeviceError as exc:  # no engine opens there
        return tuple(refuse_trial(graph.precision or name, exc, name).variant for name, graph in graphs.items())
    return tuple(trial.variant for trial in found.trials)


def add_circumstances(machine: Machine, report: Report) -> Report:
    """Where it was measured, and a warning for everything there and meanwhile that weakens a measured latency."""
    risks = list_measuring_risks(machine) if any(v.latency is not None for v in report.variants) else ()
    risks += list_condition_risks(report.conditions) if report.conditions is not None else ()
    verdict = dataclasses.replace(report.verdict, warnings=(*report.verdict.warnings, *risks))
    return dataclasses.replace(report, machine=machine, verdict=verdict)


def pack_result(
    out: Path,
    manifest: Manifest,
    recipe: Recipe,
    report: Report,
    files: Mapping[str, Path | bytes],
    lock: OutputLock,
    evidence: Evidence,
) -> BuildResult:
    """Write the bundle of the chosen variant: the manifest's engine with its canary, or ``files``."""
    variant = next(v for v in report.variants if v.name == report.verdict.chosen)
    content: dict[str, Path | bytes] = dict(files)
    if manifest.engine is not None:
        # The recipe builds this engine again; what is left open in a portable bundle is for its device to choose.
        precision = cast(PrecisionChoice, manifest.engine.precision)
        recipe = dataclasses.replace(recipe, precision=precision, settings=manifest.engine.settings)
        content.update({name: manifest.engine.directory / name for name in manifest.engine.files})
        # where it was judged, and without the sets of images, which need not travel there
        few = dataclasses.replace(evidence, choice=None, validation=None)
        canary = run_under(plan_tiers(manifest.target).ranked, make_canary, manifest.engine, few)
        if canary is not None:
            content[CANARY_FILE], record = canary
            manifest = dataclasses.replace(manifest, canary=record)
    content[RECIPE_FILE] = recipe.dumps().encode()
    content[REPORT_FILE] = report.dumps().encode()
    manifest = dataclasses.replace(
        manifest,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        precision=variant.precision,
        figures=_figures(variant, report),
    )
    bundle = pack_bundle(out, files=content, manifest=manifest, lock=lock)
    return BuildResult(bundle.path, report, bundle.manifest)


def find_model_info(target: Target, evidence: Evidence, labels: Sequence[str] | None) -> dict[str, str] | None:
    """What OpenVINO's model_api reads from a classifier's file; ``None`` for others."""
    from edgevit.engines.model_info import describe_model_info

    wanted = "openvino" in (target.backend, *target.also) and evidence.task.name == "classify"
    return dict(describe_model_info(evidence.preprocess, labels)) if wanted else None


def _worst_level(figures: Accuracy | None) -> float | None:
    worst = figures.worst_level if figures is not None else None
    return None if worst is None else worst[1]


def _figures(variant: Variant, report: Report) -> dict[str, float | int | str | bool]:
    """The figures that somebody who holds the bundle asks for first; the rest is in the report."""
    figures: dict[str, float | int | str | bool | None] = {
        "passed": report.verdict.passed,
        "verdict": report.verdict.sentence,
        "latency_p50_ms": variant.latency.p50_ms if variant.latency else None,
        "latency_p90_ms": variant.latency.p90_ms if variant.latency else None,
        "images": variant.accuracy.images if variant.accuracy else None,
        "top1_percent": variant.accuracy.top1_percent if variant.accuracy else None,
        "drop_points": variant.accuracy.drop_points if variant.accuracy else None,
        "agreement_percent": variant.accuracy.agreement_percent if variant.accuracy else None,
        "cosine_mean": variant.accuracy.cosine_mean if variant.accuracy else None,
        "worst_level_sqnr_db": _worst_level(variant.accuracy),
    }
    record = {"int8": report.quantization, "fp8": report.fp8}.get(variant.precision)
    if record is not None:
        figures["calibration"] = RANDOM_MARK if record.random else f"calibrated on {record.images} images"
    return {name: value for name, value in figures.items() if value is not None}
