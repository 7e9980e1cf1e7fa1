"""build_model: from a trained checkpoint to a measured bundle. The line of the design, top to bottom."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.build.bench import Bench, Stages, ignore_note
from edgevit.build.chance import check_labels
from edgevit.build.conclude import Background, BuildResult, conclude
from edgevit.build.desk import try_at_desk
from edgevit.build.evidence import gather_evidence, read_image_sets, refuse_assumed
from edgevit.build.graph_answers import answer_graphs
from edgevit.build.here import try_here
from edgevit.build.lock import lock_output
from edgevit.build.make_graphs import list_parts, make_base, make_graphs
from edgevit.build.order import RANDOM, Inputs, Order, fit_order, plan_order
from edgevit.build.outcome import Outcome
from edgevit.build.pack import check_output
from edgevit.build.pack_result import pack_result
from edgevit.build.rehearsal import describe_rehearsal
from edgevit.checkpoints.texts.label_texts import read_given_texts
from edgevit.core import schema
from edgevit.core.cache import StageCache
from edgevit.core.engine import TensorSpec
from edgevit.core.errors import RecipeError
from edgevit.core.memory import release_memory
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.recipe import Recipe
from edgevit.core.report.report import GraphSummary, Machine
from edgevit.core.target import Budget, Target
from edgevit.measure.machine.local import describe_machine
from edgevit.runtime.manifest import ASSUMED, Manifest

if TYPE_CHECKING:
    from edgevit.build.trial import GraphFile
    from edgevit.checkpoints.files.contents import WhichWeights
    from edgevit.checkpoints.preprocess_options import PreprocessOptions
    from edgevit.checkpoints.texts.label_texts import Lines
    from edgevit.models.model import Model


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
    labels: Lines | None = None,
    templates: Lines | None = None,
    skip_bad_images: bool = False,
    accept_chance: bool = False,
    portable: bool = False,
    progress: Progress = ignore_progress,
    note: Callable[[str], None] = ignore_note,
    cache: StageCache | None = None,
) -> BuildResult:
    """Build a bundle and measure it.

    Args:
        source: What :func:`edgevit.checkpoints.read_checkpoint` takes.
        target: What to build for.
        out: The bundle's folder. An earlier bundle there is replaced only by a finished one.
        recipe: Decisions; the default leaves the choice of precision to measurement.
        budget: What a faster variant may cost.
        calibration: Images to calibrate INT8 on and to choose by: a folder or a CSV that :meth:`ImageSet.read` takes.
            ``"random"`` calibrates on random pixels, for the sake of latency; the verdict then does not pass.
        validation: Held-out images to judge by.
        arch: Architecture of a bare weight file.
        weights: Of a training checkpoint with two sets: ``ema`` or ``model``; by default ``ema``.
        preprocess: What the checkpoint does not say of the preprocessing, or says wrongly.
        labels: Of a CLIP or SigLIP with its text tower: what its classes are called, a file with a line each or a list.
            Their texts become its head.
        templates: Texts that the labels are put into at ``{}``, likewise; by default the publisher's.
        skip_bad_images: Leave out images that cannot be used, and count them, instead of stopping.
        accept_chance: Go on where the float model does no better than chance on labelled images, instead of stopping.
        portable: Stop at the portable bundle, also where the engine could be compiled here.
        progress: Told about every stage.
        note: Told, a sentence each, what was recognised and assumed.
        cache: Finished stages of earlier builds; by default the user's.

    Raises:
        EdgevitError: With what happened and what to do. Nothing is left half done: an earlier bundle stays as it was.
    """
    out, cache = Path(out), cache or StageCache()
    texts = read_given_texts(labels, templates)
    inputs = Inputs(source, arch, weights, preprocess, calibration, validation, skip_bad_images, texts)
    order = plan_order(
        target, recipe or Recipe(), budget or Budget(), calibrated=calibration is not None, portable=portable
    )
    task = order.recipe.task.name
    if texts is not None and task not in ("auto", "classify"):
        raise RecipeError(f"labels are for the task classify, not for {task}", "leave --labels out, or --task")
    if calibration == RANDOM and not order.precisions.quantized:
        note("note: --calibration random is for int8 and fp8, which are not tried")
    machine = describe_machine()  # before the build's own load is part of it
    stages = Stages()
    with lock_output(out) as lock:
        check_output(out)
        with stages.time("read"):
            model = _read_model(inputs, order, note, progress)
            refuse_assumed(model, inputs.choice, validation)
            order = fit_order(order, model)
        stages.plan(("read", "images", "graph", "reference", *list_parts(order), "measure"), progress)
        with stages.time("images"):
            sets = read_image_sets(model, order.recipe, inputs, progress, note)
            if order.precisions.quantized:
                note(f"calibration: {sets.sample or f'random pixels, seed {order.recipe.seed}'}")
        with stages.time("graph"):
            base = make_base(model, order, cache, progress)
        with stages.time("reference"):
            evidence = gather_evidence(model, order.recipe, sets, cache, progress)
            doubts = (*sets.doubts, *check_labels(evidence, accept=accept_chance))
            evidence = dataclasses.replace(evidence, doubts=doubts)
        bench = Bench(evidence, cache, progress, note, stages)
        graphs, summary = make_graphs(base, model, sets.quantization, order, bench)
        model = model.without_weights()  # the engines have their own, and twice
        release_memory()
        with stages.time("measure"):
            outcome = _try_all(graphs, order, bench)
        findings = conclude(outcome, graphs, order, bench, _describe(model, summary, order, bench, machine))
        return pack_result(findings, graphs, bench, out, lock)


def _read_model(inputs: Inputs, order: Order, note: Callable[[str], None], progress: Progress) -> Model:
    from edgevit.checkpoints import read_checkpoint
    from edgevit.models.select_task import select_task

    model = read_checkpoint(
        inputs.source,
        arch=inputs.arch,
        image_size=order.recipe.image_size,
        weights=inputs.weights,
        preprocess=inputs.preprocess,
        texts=inputs.texts,
        progress=progress,
    )
    model = select_task(model, order.recipe.task)
    height, width = model.config.image_size
    note(f"{model.source.layout}: {model.source.architecture}, {model.parameters:,} parameters, {height} × {width}")
    for text in model.source.notes:
        note(f"note: {text}")
    return model


def _try_all(graphs: Mapping[str, GraphFile], order: Order, bench: Bench) -> Outcome:
    """Try the graphs where the order's place says; what the compiler fused is noted."""
    if order.place.measures:
        outcome = try_here(graphs, order, bench.add_answers(answer_graphs(graphs, order, bench)))
    else:
        what = "not measured" if order.place.compiles else "not compiled"
        bench.note(f"the engine is {what} here: {'; '.join(order.place.missing)}")
        outcome = try_at_desk(graphs, order, bench)
    for text in describe_rehearsal(outcome.rehearsal, order.target, compiled=order.place.compiles):
        bench.note(text)
    return outcome


def _describe(model: Model, base: GraphSummary, order: Order, bench: Bench, machine: Machine) -> Background:
    return Background(
        manifest=_make_manifest(model, order),
        source=schema.to_data(model.source),
        preprocess=model.preprocess.describe(),
        base=base,
        machine=machine,
        data=bench.evidence.data,
        notes=model.source.notes,
    )


def _make_manifest(model: Model, order: Order) -> Manifest:
    height, width = model.config.image_size
    batches = order.recipe.batch
    batch: int | str = batches[0] if batches[0] == batches[2] else "batch"
    return Manifest(
        name=model.source.architecture,
        task=model.task.name,
        task_options=schema.to_data(model.task),
        created="",
        edgevit_version=metadata.version("edgevit"),
        target=order.target,
        inputs=(TensorSpec("image", (batch, height, width, 3), "uint8"),),
        outputs=tuple(dataclasses.replace(s, shape=(batch, *s.shape[1:])) for s in model.outputs),
        preprocess=model.preprocess,
        classes=model.classes if model.answer is None else len(model.labels or ()),
        batch=batches,
        labels=model.labels,
        answer=model.answer,
        source=schema.to_data(model.source) | ({ASSUMED: list(model.assumed)} if model.assumed else {}),
    )
