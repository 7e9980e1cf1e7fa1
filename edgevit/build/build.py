"""build_model: from a trained checkpoint to a measured bundle. The line of the design, top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.build.begin import begin_build, refuse_labels
from edgevit.build.bench import Bench, ignore_note
from edgevit.build.conclude import BuildResult, conclude
from edgevit.build.desk import try_at_desk
from edgevit.build.graph_answers import answer_graphs
from edgevit.build.here import try_here
from edgevit.build.lock import lock_output
from edgevit.build.order import Inputs, Order, plan_order
from edgevit.build.outcome import Outcome
from edgevit.build.pack import check_output
from edgevit.build.pack_result import pack_result
from edgevit.build.rehearsal import describe_rehearsal
from edgevit.checkpoints.texts.label_texts import read_given_texts
from edgevit.core.cache import StageCache
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.recipe import Recipe
from edgevit.core.target import Budget, Target

if TYPE_CHECKING:
    from edgevit.build.trial import GraphFile
    from edgevit.checkpoints.files.contents import WhichWeights
    from edgevit.checkpoints.preprocess_options import PreprocessOptions
    from edgevit.checkpoints.texts.label_texts import Lines


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
        labels: Of a CLIP, SigLIP or OWL-ViT with its text tower: what its classes are called, a file with a line each
            or a list. Their texts become its head.
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
    out, cache = Path(out), cache or StageCache(note=note)
    texts = read_given_texts(labels, templates)
    inputs = Inputs(source, arch, weights, preprocess, calibration, validation, skip_bad_images, accept_chance, texts)
    order = plan_order(
        target, recipe or Recipe(), budget or Budget(), calibrated=calibration is not None, portable=portable
    )
    refuse_labels(inputs, order)
    with lock_output(out) as lock:
        check_output(out)
        begun = begin_build(inputs, order, cache, progress, note)
        order, bench = begun.order, begun.bench
        with bench.stages.time("measure"):
            outcome = _try_all(begun.graphs, order, bench)
        findings = conclude(outcome, begun.graphs, order, bench, begun.background)
        return pack_result(findings, begun.graphs, bench, out, lock)


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
