"""search_recipe: try the precisions that a target supports, measure each, keep the fastest inside the budget."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgevit.backends import get_backend
from edgevit.compile import compile_engine
from edgevit.conditions import Conditions
from edgevit.devices.watch import Watch
from edgevit.engine import Engine, Setting, load_engine
from edgevit.errors import CompileError, DeviceError, EdgevitError
from edgevit.measure import (
    GRAPH_TOLERANCE,
    PARITY_TOLERANCES,
    LatencyComparison,
    check_output_parity,
    check_parity,
    measure_accuracy,
    measure_embeddings,
    measure_features,
    measure_latency,
)
from edgevit.progress import Progress, ignore_progress
from edgevit.report import Accuracy, Parity, SettingsTrial, Variant
from edgevit.runtime.nvidia import find_gpu
from edgevit.runtime.session import Outputs, Session, open_engine
from edgevit.schema import to_data
from edgevit.target import Target
from edgevit.tune import tune_settings

if TYPE_CHECKING:
    from edgevit.cache import StageCache
    from edgevit.evidence import Evidence, Judged
    from edgevit.recipe import Recipe


_TUNING_SHARE = 4  # of the time that a variant's latency takes, that of a way to open it
_LARGEST_TUNED_BYTES = 512 << 20
"""Ways to open an engine are open side by side, and each holds the weights twice, mapped and packed."""
_LONGEST_REASON = 400  # characters of a table's footnote: compilers say more than anybody reads there


@dataclass(frozen=True)
class Trial:
    """A variant and, where it compiled, its engine."""

    variant: Variant
    engine: Engine | None = None


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        trials: One for every precision, in the order of the table.
        comparison: Latencies, where they were measured.
        settings_tried: Ways to open the engines that were timed before.
        conditions: What the sensors said while latencies were measured.
    """

    trials: tuple[Trial, ...]
    comparison: LatencyComparison | None = None
    settings_tried: tuple[SettingsTrial, ...] = ()
    conditions: Conditions | None = None


@dataclass(frozen=True)
class GraphFile:
    """What a precision is compiled from.

    Attributes:
        path: The optimised graph; of INT8 with its Q/DQ pairs.
        inputs: Plain data that identifies its content.
        trial: Its engine, judged on calibration images, where :func:`try_graph` has done so already.
    """

    path: Path
    inputs: Mapping[str, Any]
    trial: Trial | None = None


def search_recipe(
    graphs: Mapping[str, GraphFile],
    target: Target,
    recipe: Recipe,
    evidence: Evidence,
    cache: StageCache,
    *,
    model_info: Mapping[str, str] | None = None,
    measure: bool = True,
    progress: Progress = ignore_progress,
) -> SearchResult:
    """Compile, check and measure a variant for every precision.

    Args:
        graphs: By precision, in the order in which the table shows them; latency ratios are over the first.
        target: Gives backend and device.
        recipe: Batch, engine settings, and how long to measure.
        evidence: Images and the float model's answers.
        cache: Where compiled engines are kept.
        model_info: For OpenVINO's model_api.
        measure: Whether latency is measured.
        progress: Told about every image and round.

    Returns:
        A precision that the device cannot compile, or whose engine does not run there, is ``NOT SUPPORTED`` with the
        reason; the choice among the others is :func:`edgevit.verdict.choose_variant`'s.

    Raises:
        DeviceError: No engine can be opened.
    """
    trials = [
        g.trial or compile_graph(g, target, p, recipe, cache, model_info=model_info, progress=progress)
        for p, g in graphs.items()
    ]
    trials = _judge_all(trials, recipe, evidence, progress)
    engines = [t.engine for t in trials if t.engine is not None and _is_faithful(t.variant)]
    if not measure or not engines:
        return SearchResult(tuple(trials))
    # The last is the most compressed, so probably the one that will be used.
    tunes = recipe.tune_settings and engines[-1].size_bytes <= _LARGEST_TUNED_BYTES
    tried = _tune(engines[-1], recipe, evidence, progress) if tunes else ()
    chosen = next((t.settings for t in tried if t.chosen), {})
    trials = [_set(trial, chosen) for trial in trials]
    with contextlib.ExitStack() as stack:
        sessions, trials = _open_together(trials, stack)
        watch = Watch(progress)
        comparison = _time(sessions, recipe, evidence, watch)
    measured = tuple(_add_latency(trial, comparison) for trial in trials)
    return SearchResult(measured, comparison, tried, watch.conditions)


def _judge_all(trials: Sequence[Trial], recipe: Recipe, evidence: Evidence, progress: Progress) -> list[Trial]:
    """Every engine by itself. One that does not run is out, unless none runs: then the device is at fault.

    Raises:
        DeviceError: None runs.
    """
    judged: list[Trial] = []
    failures: list[DeviceError] = []
    for trial in trials:
        if trial.engine is None:
            judged.append(trial)
            continue
        try:
            with open_engine(trial.engine) as session:
                variant = judge_trial(trial, session, recipe, evidence, progress)
            judged.append(dataclasses.replace(trial, variant=variant))
        except DeviceError as exc:
            failures.append(exc)
            judged.append(refuse_trial(trial.variant.precision, exc))
    if failures and len(failures) == sum(t.engine is not None for t in trials):
        raise failures[0]
    return judged


def _open_together(trials: Sequence[Trial], stack: contextlib.ExitStack) -> tuple[dict[str, Session], list[Trial]]:
    """Sessions side by side, to be timed in turns, and the trials with the reason of those that did not fit in.

    The last engines, which are the most compressed and so probably the ones to be used, come first to the memory.

    Raises:
        DeviceError: Not even one opens.
    """
    opened: dict[str, Session] = {}
    result = list(trials)
    failure: DeviceError | None = None
    for place, trial in reversed(list(enumerate(trials))):
        if trial.engine is None or not _is_faithful(trial.variant):
            continue
        try:
            opened[trial.variant.name] = stack.enter_context(open_engine(trial.engine))
        except DeviceError as exc:
            failure = exc
            reason = f"not timed, as it does not open beside the others: {_shorten(exc)}"
            result[place] = dataclasses.replace(trial, variant=dataclasses.replace(trial.variant, reason=reason))
    if not opened and failure is not None:
        raise failure
    return {t.variant.name: opened[t.variant.name] for t in trials if t.variant.name in opened}, result


def refuse_trial(precision: str, exc: EdgevitError) -> Trial:
    """A variant that does not compile or run, with the reason on one line."""
    return Trial(Variant(precision, precision, 0, status="NOT SUPPORTED", reason=_shorten(exc)))


def _shorten(exc: EdgevitError) -> str:
    text = " ".join(exc.message.split())
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 2]} …"


def try_graph(
    graph: GraphFile,
    target: Target,
    precision: str,
    recipe: Recipe,
    evidence: Evidence,
    cache: StageCache,
    *,
    model_info: Mapping[str, str] | None = None,
    progress: Progress = ignore_progress,
) -> Trial:
    """Compile one graph and judge it on the calibration images of the choice, where there are any, and on nothing else.

    Arguments and a graph that does not compile or run are as in :func:`search_recipe`.
    """
    trial = compile_graph(graph, target, precision, recipe, cache, model_info=model_info, progress=progress)
    if trial.engine is None:
        return trial
    try:
        with open_engine(trial.engine) as session:
            accuracy = _measure(evidence.choice, f"calibration {precision}", session, recipe, evidence, progress)
    except DeviceError as exc:
        return refuse_trial(precision, exc)
    return dataclasses.replace(trial, variant=dataclasses.replace(trial.variant, choice_accuracy=accuracy))


def compile_graph(
    graph: GraphFile,
    target: Target,
    precision: str,
    recipe: Recipe,
    cache: StageCache,
    *,
    model_info: Mapping[str, str] | None = None,
    progress: Progress = ignore_progress,
) -> Trial:
    """Compile one graph, or take its engine from the cache; nothing is judged or measured.

    Arguments and a graph that does not compile are as in :func:`search_recipe`.
    """
    stage = f"compile {precision}"
    progress(stage, 0, 1)
    key = {
        **graph.inputs,
        "precision": precision,
        "backend": target.backend,
        "device": [target.device, target.compute_capability],
        **_identify_nvidia(target),
        "settings": {**target.settings, **recipe.settings},
        "batch": recipe.batch,
        "model_info": dict(model_info or {}),
    }

    def produce(folder: Path) -> None:
        compile_engine(
            graph.path,
            target,
            precision,
            folder,
            model_info=model_info,
            settings=recipe.settings,
            batch=recipe.batch,
        )

    try:
        folder, _ = cache.run("engine", key, produce)
    except CompileError as exc:
        progress(stage, 1, 1)
        return refuse_trial(precision, exc)
    engine = load_engine(folder)
    progress(stage, 1, 1)
    return Trial(Variant(precision, precision, engine.size_bytes), engine)


def _identify_nvidia(target: Target) -> dict[str, Any]:
    """What a plan fits: one version of its library and, of TensorRT, one GPU."""
    if not target.backend.startswith("tensorrt"):
        return {}
    gpu = find_gpu(target.compute_capability) if target.backend == "tensorrt" else None
    return {"versions": get_backend(target.backend).versions(), "gpu": to_data(gpu)}


def judge_trial(
    trial: Trial,
    session: Session,
    recipe: Recipe,
    evidence: Evidence,
    progress: Progress = ignore_progress,
    *,
    choice: bool = True,
) -> Variant:
    """The trial's variant with parity, and with accuracy on both sets of images where parity does not fail.

    Args:
        trial: Whose variant it is.
        session: Computes its answers.
        recipe: Batches.
        evidence: Images and the float model's answers.
        progress: Told about every image.
        choice: Whether the calibration images are looked at.
    """
    variant = trial.variant
    parity = _check(variant.precision, session, recipe, evidence)
    if parity is not None and not parity.passed:
        return dataclasses.replace(variant, parity=parity)

    def measure(judged: Judged | None, what: str) -> Accuracy | None:
        return _measure(judged, f"{what} {variant.name}", session, recipe, evidence, progress)

    return dataclasses.replace(
        variant,
        parity=parity,
        choice_accuracy=variant.choice_accuracy or (measure(evidence.choice, "calibration") if choice else None),
        accuracy=measure(evidence.validation, "validation"),
    )


def _measure(
    judged: Judged | None, stage: str, session: Session, recipe: Recipe, evidence: Evidence, progress: Progress
) -> Accuracy | None:
    if judged is None:
        return None
    images, preprocess, size = judged.images, evidence.preprocess, recipe.batch[1]
    if evidence.task.name == "features":
        names = [spec.name for spec in session.outputs]
        run = session.run_outputs
        return measure_features(
            run,
            images,
            preprocess,
            names=names,
            reference=judged.outputs,
            batch_size=size,
            progress=progress,
            stage=stage,
        )
    measure = measure_embeddings if evidence.task.name == "embed" else measure_accuracy
    return measure(
        session.run,
        images,
        preprocess,
        reference=judged.outputs[0],
        batch_size=size,
        progress=progress,
        stage=stage,
    )


def _check(precision: str, session: Session, recipe: Recipe, evidence: Evidence) -> Parity | None:
    """Parity at the least, usual and largest batch: engines have been wrong at one of them alone."""
    tolerance = PARITY_TOLERANCES.get(precision, GRAPH_TOLERANCE)
    reference = evidence.outputs if precision in PARITY_TOLERANCES else evidence.graph_outputs.get(precision)
    if reference is None:
        return None
    batches: list[npt.NDArray[np.uint8]] = []
    expected: dict[bytes, Outputs] = {}
    images = len(evidence.pixels)
    for size in dict.fromkeys(recipe.batch):
        for start in range(0, images, size):
            rows = [i % images for i in range(start, start + size)]
            pixels = evidence.pixels[rows]
            batches.append(pixels)
            expected[pixels.tobytes()] = tuple(values[rows] for values in reference)
    if evidence.task.name == "classify":
        return check_parity(session.run, lambda b: expected[b.tobytes()][0], batches, tolerance)
    names = [spec.name for spec in session.outputs]
    return check_output_parity(session.run_outputs, lambda b: expected[b.tobytes()], batches, tolerance, names)


def _is_faithful(variant: Variant) -> bool:
    return variant.status != "NOT SUPPORTED" and (variant.parity is None or variant.parity.passed)


def _tune(engine: Engine, recipe: Recipe, evidence: Evidence, progress: Progress) -> tuple[SettingsTrial, ...]:
    runs, seconds = (max(1, recipe.latency_runs // _TUNING_SHARE), recipe.latency_seconds / _TUNING_SHARE)
    batch = _make_batch(recipe, evidence)
    return tune_settings(engine, batch, runs=runs, seconds=seconds, seed=recipe.seed, progress=progress)


def _set(trial: Trial, settings: Mapping[str, Setting]) -> Trial:
    if trial.engine is None or not settings:
        return trial
    engine = dataclasses.replace(trial.engine, settings={**trial.engine.settings, **settings})
    return dataclasses.replace(trial, engine=engine)


def _make_batch(recipe: Recipe, evidence: Evidence) -> npt.NDArray[np.uint8]:
    return evidence.pixels[[i % len(evidence.pixels) for i in range(recipe.batch[1])]]


def _time(sessions: Mapping[str, Session], recipe: Recipe, evidence: Evidence, progress: Progress) -> LatencyComparison:
    return measure_latency(
        sessions,
        _make_batch(recipe, evidence),
        runs=recipe.latency_runs,
        seconds=recipe.latency_seconds,
        seed=recipe.seed,
        progress=progress,
    )


def _add_latency(trial: Trial, comparison: LatencyComparison) -> Trial:
    name = trial.variant.name
    if name not in comparison.latencies:
        return trial
    baseline = next(iter(comparison.latencies))
    variant = dataclasses.replace(
        trial.variant, latency=comparison.latencies[name], ratio=comparison.ratio(name, baseline)
    )
    return dataclasses.replace(trial, variant=variant)
