"""judge_trial: whether one engine computes what the model computes, and how right it is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgevit.build.trial import GraphFile, Trial, compile_graph, refuse_trial
from edgevit.core.engine import Engine
from edgevit.core.errors import CompileError, DeviceError
from edgevit.core.isa import TIERS, TierName, read_tier
from edgevit.core.json_text import parse_json
from edgevit.core.libraries import LIBRARIES
from edgevit.core.report.report import Accuracy, Parity, Variant
from edgevit.core.schema import from_data, to_data
from edgevit.measure.answers import measure_answers
from edgevit.measure.parity import GRAPH_TOLERANCE, PARITY_TOLERANCES, check_parity
from edgevit.runtime.session import Outputs, Session, get_runtime, open_engine

if TYPE_CHECKING:
    from edgevit.build.bench import Bench
    from edgevit.build.evidence import Evidence, Judged
    from edgevit.build.order import Order
    from edgevit.core.recipe import Recipe
    from edgevit.core.task import Task


ACCURACY_FILE = "accuracy.json"


def try_graph(graph: GraphFile, precision: str, order: Order, bench: Bench) -> Trial:
    """Compile one graph and judge it on the calibration images of the choice, where there are any, and on nothing else.

    Arguments and a graph that does not compile or run are as in :func:`edgevit.build.try_engines.try_engines`.
    """
    trial = compile_graph(graph, precision, order, bench)
    if trial.engine is None:
        return trial
    try:
        with open_engine(trial.engine) as session:
            judged = bench.evidence.choice
            accuracy = _measure(judged, f"calibration {precision}", trial.engine, session, order, bench)
    except DeviceError as exc:
        return refuse_trial(precision, exc)
    return trial.update(choice_accuracy=accuracy)


def judge_trial(trial: Trial, session: Session, order: Order, bench: Bench, *, choice: bool = True) -> Variant:
    """The trial's variant with parity, and with accuracy on both sets of images where parity does not fail.

    ``session`` computes its answers; without ``choice`` the calibration images are not looked at.
    """
    variant = trial.variant
    parity = _check(variant.precision, session, order.recipe, bench.evidence)
    if parity is not None and not parity.passed:
        cause = _guess_cause(trial.engine, read_tier())
        return dataclasses.replace(variant, parity=dataclasses.replace(parity, reason=f"{parity.reason}{cause}"))

    def measure(judged: Judged | None, what: str) -> Accuracy | None:
        assert trial.engine is not None
        return _measure(judged, f"{what} {variant.name}", trial.engine, session, order, bench)

    return dataclasses.replace(
        variant,
        parity=parity,
        choice_accuracy=variant.choice_accuracy or (measure(bench.evidence.choice, "calibration") if choice else None),
        accuracy=measure(bench.evidence.validation, "validation"),
    )


def _guess_cause(engine: Engine | None, tier: TierName | None) -> str:
    """What most probably makes an engine compute something else than its graph, for the end of a sentence."""
    if engine is None or engine.device != "CPU" or tier is None:
        return ""
    floats = engine.settings.get("inference_precision")
    if floats in ("bf16", "f16"):
        return f"; the likely cause is {engine.backend}'s arithmetic in {floats} under {TIERS[tier].title}"
    # ONNX Runtime multiplies u8 by u8 where it has to
    if not LIBRARIES[engine.backend].onednn or engine.precision != "int8":
        return ""
    if TIERS[tier].saturates:
        return (
            f"; the likely cause: products of u8 and i8 overflow 16 bits under {TIERS[tier].title}, which has no VNNI"
        )
    if tier.startswith("amx"):
        return f"; the likely cause is {engine.backend}'s fused attention in int8 under {TIERS[tier].title}"
    return ""


def _measure(
    judged: Judged | None, stage: str, engine: Engine, session: Session, order: Order, bench: Bench
) -> Accuracy | None:
    """Accuracy on a set, which is kept: the same engine gives the same answers to the same images on the same CPU."""
    if judged is None:
        return None
    if not judged.key:
        return _count(judged, stage, session, order, bench)

    def produce(folder: Path) -> None:
        found = _count(judged, stage, session, order, bench)
        (folder / ACCURACY_FILE).write_text(json.dumps(to_data(found)), encoding="utf-8")

    key = {
        "engine": engine.directory.name,
        "opened with": dict(engine.settings),
        "place": to_data(get_runtime(engine.backend).describe_place(engine, session.settings)),
        "reference": judged.key,
        "batch": order.recipe.batch,
    }
    folder, _ = bench.cache.run("accuracy", key, produce)
    found = parse_json((folder / ACCURACY_FILE).read_bytes())
    return from_data(Accuracy, found, str(folder), CompileError)


def _count(judged: Judged, stage: str, session: Session, order: Order, bench: Bench) -> Accuracy:
    return measure_answers(
        session.run_outputs,
        judged.images,
        bench.evidence.preprocess,
        bench.evidence.task,
        session.outputs,
        reference=judged.outputs,
        answer=bench.evidence.answer,
        batch_size=order.recipe.batch[1],
        progress=bench.progress,
        stage=stage,
    )


def _has_top1(task: Task, outputs: int) -> bool:
    """Whether one of several classes comes first: the first of one output is the same whatever the engine gives."""
    return task.name == "classify" and task.scores in (None, "softmax") and outputs > 1


def _check(precision: str, session: Session, recipe: Recipe, evidence: Evidence) -> Parity | None:
    """Parity at the least, usual and largest batch: engines have been wrong at only one of them."""
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
    return check_parity(
        session.run_outputs,
        lambda b: expected[b.tobytes()],
        batches,
        tolerance,
        [spec.name for spec in session.outputs],
        ranked=_has_top1(evidence.task, reference[0].shape[-1]),
        chooses=evidence.chooses,
    )
