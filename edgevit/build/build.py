"""build_model: from a trained checkpoint to a measured bundle. The line of the design, top to bottom."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.build.conclude import BuildResult, add_circumstances, choose_and_start, find_model_info, pack_result
from edgevit.build.desk import judge_at_desk
from edgevit.build.evidence import Evidence, gather_evidence, read_image_sets, refuse_assumed
from edgevit.build.graph_answers import JUDGE_SETTINGS, answer_graphs, stand_in_target
from edgevit.build.lock import lock_output
from edgevit.build.pack import check_output
from edgevit.build.portable import collect_portable_files
from edgevit.build.precisions import choose_precisions, limit_precisions
from edgevit.build.prepare import PreparedGraph, prepare_graph, prepare_half_range, read_range_pixels
from edgevit.build.prepare_fp8 import prepare_fp8
from edgevit.build.prepare_quantized import QuantizedGraph, check_pins, prepare_quantized
from edgevit.build.rehearsal import REHEARSED_BACKENDS, describe_rehearsal, read_fusion
from edgevit.build.set_back import pin_set_back, set_back_sites
from edgevit.build.tier_process import run_under
from edgevit.build.tiers import plan_tiers
from edgevit.build.trial import GraphFile
from edgevit.build.verdict.quantized import explain_set_back, judge_calibration
from edgevit.core import schema
from edgevit.core.cache import StageCache
from edgevit.core.engine import TensorSpec
from edgevit.core.errors import CompileError
from edgevit.core.memory import collect_new_alone, release_memory
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.recipe import Recipe
from edgevit.core.report.conditions import Conditions
from edgevit.core.report.report import GraphSummary, Machine, Report, Variant, Verdict
from edgevit.core.target import Budget, Target
from edgevit.engines.availability import Status, target_status
from edgevit.measure.machine.local import describe_machine
from edgevit.quantize.placement import check_weight_bits
from edgevit.runtime.bundle import REPORT_FILE
from edgevit.runtime.bundle_settings import check_build_settings
from edgevit.runtime.manifest import ASSUMED, Manifest

if TYPE_CHECKING:
    from edgevit.checkpoints.files.contents import WhichWeights
    from edgevit.checkpoints.preprocess_options import PreprocessOptions
    from edgevit.models.model import Model

RANDOM = "random"
"""In place of calibration images: random pixels."""


@collect_new_alone()
def build_model(
    source: str | Path,
    target: Target,
    *,
    out: str | Path,
    recipe: Recipe | None = None,
    budget: Budget | None = None,
    calibration: str | Path | None = None,
    validation: str | Path | None = None,
    arch: str | None = None,
    weights: WhichWeights | None = None,
    preprocess: PreprocessOptions | None = None,
    skip_bad_images: bool = False,
    portable: bool = False,
    progress: Progress = ignore_progress,
    note: Callable[[str], None] = lambda text: None,
    cache: StageCache | None = None,
) -> BuildResult:
    """Build a bundle and measure it.

    Args:
        source: What :func:`edgevit.checkpoints.read_checkpoint` takes.
        target: What to build for.
        out: The bundle's folder. An earlier bundle there is replaced by a finished one alone.
        recipe: Decisions; the default leaves the choice of precision to measurement.
        budget: What a faster variant may cost.
        calibration: Images to calibrate INT8 on and to choose by: a folder or a CSV that :meth:`ImageSet.read` takes.
            ``"random"`` calibrates on random pixels, for the sake of latency; the verdict then does not pass.
        validation: Held-out images to judge by.
        arch: Architecture of a bare weight file.
        weights: Of a training checkpoint with two sets: ``ema`` or ``model``; by default ``ema``.
        preprocess: What the checkpoint does not say of the preprocessing, or says wrongly.
        skip_bad_images: Leave out images that cannot be used, and count them, instead of stopping.
        portable: Stop at the portable bundle, also where the engine could be compiled here.
        progress: Told about every stage.
        note: Told, a sentence each, what was recognised and assumed.
        cache: Finished stages of earlier builds; by default the user's.

    Raises:
        EdgevitError: With what happened and what to do. Nothing is left half done: an earlier bundle stays as it was.
    """
    out = Path(out)
    recipe, budget, cache = recipe or Recipe(), budget or Budget(), cache or StageCache()
    recipe = dataclasses.replace(recipe, export=recipe.export or target.export)
    status = _leave_to_device(target_status(target)) if portable else target_status(target)
    _check_batch(target, recipe)
    check_build_settings(target, recipe.settings)
    measures = status.buildable and status.runnable
    plan = plan_tiers(target)
    precisions = choose_precisions(
        target, recipe, calibrated=calibration is not None, tier=plan.floats if measures else None
    )
    if "int8" in precisions.tried:
        check_weight_bits(recipe.quantization.weight_bits, target.backend)
    random = calibration == RANDOM
    if random and not precisions.quantized:
        note("note: --calibration random is for int8 and fp8, which are not tried")
    machine = describe_machine()  # before the build's own load is part of it
    stages: dict[str, float] = {}
    with lock_output(out) as lock:
        check_output(out)
        with _timed(stages, "read"):
            model = _read(source, arch, weights, recipe, preprocess, note)
            refuse_assumed(model, None if random else calibration, validation)
            recipe = dataclasses.replace(recipe, task=model.task)
            precisions = limit_precisions(precisions, model.float_only)
        with _timed(stages, "images"):
            sets = read_image_sets(
                model,
                recipe,
                None if random else calibration,
                validation,
                skip_bad=skip_bad_images,
                progress=progress,
                note=note,
            )
            if precisions.quantized:
                note(f"calibration: {sets.sample or f'random pixels, seed {recipe.seed}'}")
        with _timed(stages, "graph"):
            graph = prepare_graph(model, target, recipe, cache, progress)
            named = recipe.quantization.sites or recipe.quantization.observers
            if "int8" in precisions.tried and named:  # before minutes of the float model
                check_pins(model, target, recipe, cache, progress)
        with _timed(stages, "reference"):
            evidence = gather_evidence(model, recipe, sets, cache, progress)
        if target.backend in REHEARSED_BACKENDS:
            with _timed(stages, "float16 range"):
                pixels = read_range_pixels(sets.quantization, model.preprocess, evidence.pixels)
                graph = prepare_half_range(graph, pixels, recipe.batch[0], cache, progress)
        files = {p: GraphFile(graph.path, graph.inputs) for p in precisions.tried}
        quantized: dict[str, QuantizedGraph] = {}
        if "int8" in precisions.tried:
            with _timed(stages, "quantize"):
                quantized["int8"] = prepare_quantized(model, target, recipe, sets.quantization, cache, progress)
        if "fp8" in precisions.tried:
            with _timed(stages, "quantize fp8"):
                shared = (sets.quantization, model.preprocess, evidence.pixels)
                quantized["fp8"] = prepare_fp8(graph, target, recipe, *shared, cache, progress)
        for precision, made in quantized.items():
            if made.reused:
                note(f"{precision}: calibrated by an earlier build of the same model, recipe and images; used again")
        if quantized:
            with _timed(stages, "fallback"):
                info = find_model_info(target, evidence, model.labels) if measures else None
                judge, plain = target, recipe
                if not measures:
                    judge, plain = stand_in_target(target), dataclasses.replace(recipe, settings=JUDGE_SETTINGS)
                for precision, made in quantized.items():
                    quantized[precision], files[precision] = run_under(
                        plan.ranked if measures else None,
                        set_back_sites,
                        *(made, judge, plain, budget, evidence, cache),
                        model_info=info,
                        progress=progress,
                    )
                    cache.hold(files[precision].path.parent)
        model = model.without_weights()  # the engines have their own, and twice
        release_memory()
        with _timed(stages, "measure"):
            tiers: Mapping[str, tuple[Variant, ...]] = {}
            if measures:
                outputs = answer_graphs(files, target, recipe, evidence, cache, progress)
                evidence = dataclasses.replace(evidence, graph_outputs=outputs)
                choice = choose_and_start(
                    files, target, recipe, budget, evidence, cache, labels=model.labels, progress=progress
                )
                found, variants, verdict, tiers = choice.found, choice.variants, choice.verdict, choice.tiers
                rehearsal = read_fusion(found)
            else:
                what = "not measured" if status.buildable else "not compiled"
                note(f"the engine is {what} here: {'; '.join(status.missing)}")
                desk = judge_at_desk(
                    files, target, recipe, budget, evidence, cache, compiles=status.buildable, progress=progress
                )
                found, variants, verdict, rehearsal = desk.found, desk.variants, desk.verdict, desk.rehearsal
                evidence = dataclasses.replace(evidence, graph_outputs=desk.graph_outputs)
        for text in describe_rehearsal(rehearsal, target, compiled=status.buildable):
            note(text)
        chosen = next((v for v in variants if v.name == verdict.chosen), None)
        packed_graph = quantized.get(chosen.precision) if chosen is not None else None
        verdict = judge_calibration(verdict, None, chosen=False, untried=precisions.untried)
        for precision, made in quantized.items():
            variants = explain_set_back(variants, made.record, precision)
            verdict = judge_calibration(verdict, made.record, chosen=made is packed_graph, untried="", name=precision)
        report = _describe(model, target, budget, graph, evidence, variants, verdict, stages, machine, found.conditions)
        report = dataclasses.replace(
            report,
            settings_tried=found.settings_tried,
            tiers=tiers,
            fusion=rehearsal.fusion,
            quantization=quantized["int8"].record if "int8" in quantized else None,
            fp8=quantized["fp8"].record if "fp8" in quantized else None,
        )
        if packed_graph is not None:
            report = dataclasses.replace(report, passes=packed_graph.passes, op_counts=packed_graph.op_counts)
        # A portable bundle has all graphs, and its recipe the pins of one: of the chosen, else of the first.
        pinned = packed_graph or (next(iter(quantized.values()), None) if not status.buildable else None)
        if pinned is not None:
            recipe = pin_set_back(recipe, pinned.record)
        if verdict.chosen is None:
            path = out.with_name(f"{out.name}.{REPORT_FILE}")
            report.save(path)
            note(f"no bundle was written; the report is {path}")
            return BuildResult(None, report, None)
        manifest = _make_manifest(model, target, recipe)
        if not status.buildable:
            summaries = {"float": GraphSummary(graph.passes, graph.op_counts)}
            summaries |= {p: GraphSummary(made.passes, made.op_counts) for p, made in quantized.items()}
            report = dataclasses.replace(report, graphs=summaries)
            packed = collect_portable_files(files, manifest.outputs, evidence, cache)
            return pack_result(out, manifest, recipe, report, packed, lock, evidence)
        engine = next(t.engine for t in found.trials if t.variant.name == verdict.chosen)
        return pack_result(out, dataclasses.replace(manifest, engine=engine), recipe, report, {}, lock, evidence)


@contextlib.contextmanager
def _timed(stages: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    stages[name] = round(time.perf_counter() - start, 3)


def _leave_to_device(status: Status) -> Status:
    return dataclasses.replace(status, buildable=False, missing=("it is left to the device",))


def _check_batch(target: Target, recipe: Recipe) -> None:
    if recipe.batch[0] != recipe.batch[2] and not target.dynamic_batch:
        raise CompileError(
            f"target {target.name} takes one fixed batch, not a range", f"give --batch {recipe.batch[1]}"
        )


def _read(
    source: str | Path,
    arch: str | None,
    weights: WhichWeights | None,
    recipe: Recipe,
    preprocess: PreprocessOptions | None,
    note: Callable[[str], None],
) -> Model:
    from edgevit.checkpoints import read_checkpoint
    from edgevit.models.select_task import select_task

    model = read_checkpoint(source, arch=arch, image_size=recipe.image_size, weights=weights, preprocess=preprocess)
    model = select_task(model, recipe.task)
    height, width = model.config.image_size
    note(f"{model.source.layout}: {model.source.architecture}, {model.parameters:,} parameters, {height} × {width}")
    for text in model.source.notes:
        note(f"note: {text}")
    return model


def _describe(
    model: Model,
    target: Target,
    budget: Budget,
    graph: PreparedGraph,
    evidence: Evidence,
    variants: tuple[Variant, ...],
    verdict: Verdict,
    stages: dict[str, float],
    machine: Machine,
    conditions: Conditions | None,
) -> Report:
    if evidence.generated:
        warning = "parity was checked on generated images, as none were given"
        verdict = dataclasses.replace(verdict, warnings=(*verdict.warnings, warning))
    return add_circumstances(
        machine,
        Report(
            source=schema.to_data(model.source),
            target=target.name,
            budget=budget,
            machine=machine,
            variants=variants,
            verdict=verdict,
            preprocess=model.preprocess.describe(),
            passes=graph.passes,
            op_counts=graph.op_counts,
            data=evidence.data,
            stages=dict(stages),
            conditions=conditions,
            notes=model.source.notes,
        ),
    )


def _make_manifest(model: Model, target: Target, recipe: Recipe) -> Manifest:
    height, width = model.config.image_size
    batch: int | str = recipe.batch[0] if recipe.batch[0] == recipe.batch[2] else "batch"
    return Manifest(
        name=model.source.architecture,
        task=model.task.name,
        task_options=schema.to_data(model.task),
        created="",
        edgevit_version=metadata.version("edgevit"),
        target=target,
        inputs=(TensorSpec("image", (batch, height, width, 3), "uint8"),),
        outputs=tuple(dataclasses.replace(s, shape=(batch, *s.shape[1:])) for s in model.outputs),
        preprocess=model.preprocess,
        classes=model.classes,
        batch=recipe.batch,
        labels=model.labels,
        source=schema.to_data(model.source) | ({ASSUMED: list(model.assumed)} if model.assumed else {}),
    )
