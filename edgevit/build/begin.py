"""begin_build: everything of a build that comes before its engines are tried: the model, the images, the graphs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from edgevit.build.bench import Bench, Stages
from edgevit.build.chance import check_labels
from edgevit.build.conclude import Background
from edgevit.build.evidence import gather_evidence, read_image_sets, refuse_assumed
from edgevit.build.make_graphs import list_parts, make_base, make_graphs
from edgevit.build.order import RANDOM, Inputs, Order, fit_order
from edgevit.core import schema
from edgevit.core.engine import TensorSpec
from edgevit.core.errors import RecipeError
from edgevit.core.memory import release_memory
from edgevit.core.progress import Progress
from edgevit.measure.machine.local import describe_machine
from edgevit.runtime.manifest import ASSUMED, Manifest

if TYPE_CHECKING:
    from edgevit.build.trial import GraphFile
    from edgevit.core.cache import StageCache
    from edgevit.core.report.report import GraphSummary, Machine
    from edgevit.models.model import Model


@dataclass(frozen=True)
class Begun:
    """A build whose engines are still to be tried.

    Attributes:
        order: With what the model allows.
        graphs: What is compiled, by precision.
        bench: With the evidence.
        background: What is known whatever the engines come to.
    """

    order: Order
    graphs: Mapping[str, GraphFile]
    bench: Bench
    background: Background


def begin_build(
    inputs: Inputs, order: Order, cache: StageCache, progress: Progress, note: Callable[[str], None]
) -> Begun:
    """Read the checkpoint and the images, export, quantise, and run the float model over the images.

    Raises:
        EdgevitError: As :func:`edgevit.build.build.build_model`.
    """
    if inputs.calibration == RANDOM and not order.precisions.quantized:
        note("note: --calibration random is for int8 and fp8, which are not tried")
    machine = describe_machine()  # before the build's own load is part of it
    stages = Stages()
    with stages.time("read"):
        model = _read_model(inputs, order, note, progress)
        refuse_assumed(model, inputs.choice, inputs.validation)
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
        doubts = (*sets.doubts, *check_labels(evidence, accept=inputs.accept_chance))
        evidence = dataclasses.replace(evidence, doubts=doubts)
    bench = Bench(evidence, cache, progress, note, stages)
    graphs, summary = make_graphs(base, model, sets.quantization, order, bench)
    model = model.without_weights()  # the engines have their own, and twice
    release_memory()
    return Begun(order, graphs, bench, _describe(model, summary, order, bench, machine))


def refuse_labels(inputs: Inputs, order: Order) -> None:
    """Raise RecipeError where labels are given and the task has no use for them."""
    task = order.recipe.task.name
    if inputs.texts is not None and task not in ("auto", "classify", "detect"):
        raise RecipeError(
            f"labels are for the tasks classify and detect, not for {task}", "leave --labels out, or --task"
        )


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
