"""try_engines: try the precisions that a target supports, measure each, keep the fastest inside the budget."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgevit.build.judge import judge_trial
from edgevit.build.trial import GraphFile, Trial, compile_graph, refuse_trial, shorten_message
from edgevit.core.engine import Engine, Setting
from edgevit.core.errors import DeviceError
from edgevit.core.progress import Progress, add_to_names
from edgevit.core.report.conditions import Conditions
from edgevit.core.report.report import EndToEnd, SettingsTrial, Variant
from edgevit.measure.end_to_end import SECONDS as END_TO_END_SECONDS
from edgevit.measure.end_to_end import App, measure_end_to_end
from edgevit.measure.latency import LatencyComparison, measure_latency
from edgevit.measure.machine.watch import Watch
from edgevit.measure.photo import pick_photo
from edgevit.measure.tune import tune_settings
from edgevit.runtime.session import Session, open_engine

if TYPE_CHECKING:
    from edgevit.build.bench import Bench
    from edgevit.build.evidence import Evidence
    from edgevit.build.order import Order
    from edgevit.core.recipe import Recipe

_FIRST_ANSWERS = 3
_PATIENCE, _PATIENCE_SECONDS = 10, 0.25
"""A variant so many times slower than another, and slower than this, is not worth judging on thousands of images:
OpenVINO has taken a second for an answer where it has no fast kernels for a type."""
_TUNING_SHARE = 4  # of the time that a variant's latency takes, that of a way to open it
_LARGEST_TUNED_BYTES = 512 << 20
"""Of the weights as they are computed with: ways to open an engine are open side by side, and each packs its own."""


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


def try_engines(graphs: Mapping[str, GraphFile], order: Order, bench: Bench, *, measure: bool = True) -> SearchResult:
    """Compile, check and measure a variant for every precision.

    Args:
        graphs: By the variant's name, in the order in which the table shows them; latency ratios are over the first.
        order: Gives library, device, batch, engine settings, and how long to measure.
        bench: Images and the float model's answers; told about every image and round.
        measure: Whether latency is measured.

    Returns:
        A precision that the device cannot compile, or whose engine does not run there, is ``NOT SUPPORTED`` with the
        reason; the choice among the others is :func:`edgevit.build.verdict.choose.choose_variant`'s.

    Raises:
        DeviceError: No engine can be opened.
    """
    trials = [
        graph.trial or compile_graph(graph, graph.precision or name, order, bench, name=name)
        for name, graph in graphs.items()
    ]
    trials = _judge_all(trials, order, bench)
    recipe, evidence, progress = order.recipe, bench.evidence, bench.progress
    engines = [t.engine for t in trials if t.engine is not None and _is_faithful(t.variant)]
    if not measure or not engines:
        return SearchResult(tuple(trials))
    # The last of a library is the most compressed, so probably the one that will be used.
    last = {engine.backend: engine for engine in engines}.values()
    tuned = [e for e in last if recipe.tune_settings and _count_packed_bytes(e) <= _LARGEST_TUNED_BYTES]
    ends = {e.backend: f" of {e.backend}" if len(tuned) > 1 else "" for e in tuned}
    tried = tuple(t for e in tuned for t in _tune(e, recipe, evidence, add_to_names(progress, ends[e.backend])))
    chosen = {t.library: t.settings for t in tried if t.chosen}
    trials = [_set(trial, chosen) for trial in trials]
    with contextlib.ExitStack() as stack:
        sessions, trials = _open_together(trials, stack)
        watch = Watch(progress)
        comparison = measure_latency(
            sessions,
            _make_batch(recipe, evidence),
            runs=recipe.latency_runs,
            seconds=recipe.latency_seconds,
            seed=recipe.seed,
            progress=watch,
        )
        answered = _answer_photo(sessions, recipe, evidence, progress)
    measured = tuple(_add_times(trial, comparison, answered) for trial in trials)
    return SearchResult(measured, comparison, tried, watch.conditions)


def _judge_all(trials: Sequence[Trial], order: Order, bench: Bench) -> list[Trial]:
    """Every engine by itself. One that does not run is out, unless none runs: then the device is at fault.

    Raises:
        DeviceError: None runs.
    """
    judged: list[Trial] = []
    failures: list[DeviceError] = []
    fastest = math.inf
    for trial in trials:
        if trial.engine is None:
            judged.append(trial)
            continue
        try:
            with open_engine(trial.engine) as session:
                check_arithmetic(trial.engine, session)
                seconds = _time_answer(session, _make_batch(order.recipe, bench.evidence))
                if seconds > max(_PATIENCE_SECONDS, _PATIENCE * fastest):
                    raise DeviceError(f"an answer takes {seconds:.2g} s, and {fastest:.2g} s by another variant")
                fastest = min(fastest, seconds)
                variant = judge_trial(trial, session, order, bench)
            judged.append(dataclasses.replace(trial, variant=variant))
        except DeviceError as exc:
            failures.append(exc)
            judged.append(refuse_trial(trial.variant.precision, exc, trial.variant.name))
    if failures and len(failures) == sum(t.engine is not None for t in trials):
        raise failures[0]
    return judged


def check_arithmetic(engine: Engine, session: Session) -> None:
    """Raise DeviceError where a CPU does not compute in the type that it was asked for."""
    wanted, used = engine.settings.get("inference_precision"), session.settings.get("inference_precision")
    if engine.device == "CPU" and wanted is not None and used != wanted:
        raise DeviceError(f"{engine.backend} computes in {used} here, not in {wanted}")


def _time_answer(session: Session, batch: npt.NDArray[np.uint8]) -> float:
    """Seconds of the fastest of the first answers."""
    taken = []
    for _ in range(_FIRST_ANSWERS):
        start = time.perf_counter()
        session.run_outputs(batch)
        taken.append(time.perf_counter() - start)
    return min(taken)


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
            reason = f"not timed, as it does not open beside the others: {shorten_message(exc)}"
            result[place] = trial.update(reason=reason)
    if not opened and failure is not None:
        raise failure
    return {t.variant.name: opened[t.variant.name] for t in trials if t.variant.name in opened}, result


def _is_faithful(variant: Variant) -> bool:
    return variant.status != "NOT SUPPORTED" and (variant.parity is None or variant.parity.passed)


def _tune(engine: Engine, recipe: Recipe, evidence: Evidence, progress: Progress) -> tuple[SettingsTrial, ...]:
    runs, seconds = (max(1, recipe.latency_runs // _TUNING_SHARE), recipe.latency_seconds / _TUNING_SHARE)
    batch = _make_batch(recipe, evidence)
    return tune_settings(engine, batch, runs=runs, seconds=seconds, seed=recipe.seed, progress=progress)


def _count_packed_bytes(engine: Engine) -> int:
    """The engine's weights in the type that it computes with; on a CPU those of ``fp16`` are widened to float32."""
    return engine.size_bytes * (2 if engine.precision == "fp16" and engine.device == "CPU" else 1)


def _set(trial: Trial, settings: Mapping[str, Mapping[str, Setting]]) -> Trial:
    """The trial with what was chosen for its library."""
    if trial.engine is None or trial.engine.backend not in settings:
        return trial
    engine = trial.engine
    engine = dataclasses.replace(engine, settings={**engine.settings, **settings[engine.backend]})
    return dataclasses.replace(trial, engine=engine)


def _make_batch(recipe: Recipe, evidence: Evidence) -> npt.NDArray[np.uint8]:
    return evidence.pixels[[i % len(evidence.pixels) for i in range(recipe.batch[1])]]


def _answer_photo(
    sessions: Mapping[str, Session], recipe: Recipe, evidence: Evidence, progress: Progress
) -> dict[str, EndToEnd]:
    """What an app waits for with a typical image of the calibration set, else of the validation set, if any."""
    judged = evidence.choice or evidence.validation
    if judged is None:
        return {}
    task, scores = evidence.task.name, evidence.task.scores or "softmax"
    apps = {n: App(s, evidence.preprocess, task, evidence.labels, scores) for n, s in sessions.items()}
    photo = pick_photo(judged.images)
    return measure_end_to_end(apps, photo, seconds=min(END_TO_END_SECONDS, recipe.latency_seconds), progress=progress)


def _add_times(trial: Trial, comparison: LatencyComparison, answered: Mapping[str, EndToEnd]) -> Trial:
    name = trial.variant.name
    if name not in comparison.latencies:
        return trial
    baseline = next(iter(comparison.latencies))
    return trial.update(
        latency=comparison.latencies[name],
        ratio=comparison.ratio(name, baseline),
        end_to_end=answered.get(name),
    )
