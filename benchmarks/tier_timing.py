"""measure_tier: every engine of a model under one tier, in a process that computes with nothing newer."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import PeerSession, Pixels, Values, compile_openvino
from benchmarks.tier_files import TARGET, UNPADDED, TierFiles
from edgevit.build.precisions import list_arithmetics
from edgevit.core.engine import load_engine
from edgevit.core.isa import TIERS, TierName, read_tier
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.recipe import Recipe
from edgevit.core.target import load_target
from edgevit.measure.latency import LatencyComparison, measure_latency
from edgevit.pixels.preprocess import Preprocess
from edgevit.runtime.session import open_engine

NNCF, TIMM = "NNCF default", "timm, float"
FORMS: Mapping[str, str | None] = {"float32": "f32", "OpenVINO's default": None}
"""How a peer is opened: the type of what is not quantised, and what a user gets who does nothing."""

LEAST_LIKENESS = 0.5
"""Of an engine's answer to the float model's, as a correlation: below it, it computes something else."""


@dataclass(frozen=True)
class Case:
    """An engine as it is opened.

    Attributes:
        name: For people; a peer's is ``NNCF default, dynamo, float32``.
        path: The folder of ours, or a peer's file.
        floats: Type of the float arithmetic; ``None`` for OpenVINO's default.
        ours: Whether it is ours.
    """

    name: str
    path: Path
    floats: str | None
    ours: bool = False


@dataclass(frozen=True)
class TierCases:
    """What is opened under a tier.

    Attributes:
        cases: In the order of the table.
        refused: Of ours by name: why it is not built, as OpenVINO is known to compute it wrongly.
    """

    cases: tuple[Case, ...]
    refused: Mapping[str, str]


@dataclass(frozen=True)
class Timing:
    """How long and how often.

    Attributes:
        seconds: Timed, an engine, at least.
        runs: Timed calls, an engine, at least.
        rounds: Turns.
    """

    seconds: float
    runs: int
    rounds: int


@dataclass(frozen=True)
class Found:
    """What a tier's process hands back.

    Attributes:
        latency: Of all engines that compute the model.
        logits: ``(N, K) float32`` on the validation images by engine.
        wrong: Engines that compute something else, with the correlation; not timed.
        default: The type that OpenVINO chooses where nothing is set.
    """

    latency: LatencyComparison
    logits: Mapping[str, Values]
    wrong: Mapping[str, float]
    default: str


def plan_cases(files: TierFiles, tier: TierName) -> TierCases:
    """Ours as a build would try them on such a processor, and the peers in both forms."""
    cases, refused = [], {}
    precisions = [name for name in ("int8", "bf16", "fp32") if name in files.ours]
    arithmetics = list_arithmetics(precisions, load_target(TARGET), Recipe(), tier)
    for name, arithmetic in arithmetics.items():
        forms = [(name, arithmetic.precision)]
        if name == arithmetic.precision:  # what is tried beside it differs in the same way
            forms.append((f"{name} {UNPADDED}", f"{name} {UNPADDED}"))
        for title, engine in forms:
            if engine not in files.ours:
                continue
            fault = files.faults.get(engine, {}).get(arithmetic.floats or "f32", {}).get(tier)
            if fault is not None:
                refused[title] = fault
            else:
                cases.append(Case(title, files.ours[engine], arithmetic.floats, ours=True))
    for kind, sources in ((NNCF, files.nncf), (TIMM, files.exports)):
        for form, floats in FORMS.items():
            cases += [Case(f"{kind}, {exporter}, {form}", path, floats) for exporter, path in sources.items()]
    return TierCases(tuple(cases), refused)


def measure_tier(
    cases: tuple[Case, ...],
    preprocess: Preprocess,
    batch: Pixels,
    expected: Values,
    validation: Path | None,
    timing: Timing,
    *,
    progress: Progress = ignore_progress,
) -> Found:
    """Open all engines, time them in turns, and collect their answers.

    Args:
        cases: Of :func:`plan_cases`. Peers in OpenVINO's default are left out where that is float32.
        preprocess: The model's.
        batch: ``(1, H, W, 3) uint8``, which is timed.
        expected: ``(1, K) float32``, the float model's answer to it.
        validation: ``(N, H, W, 3) uint8`` in NumPy's format; all INT8 engines and our bfloat16 answer them.
        timing: How long.
        progress: Told about the turns.
    """
    default = read_default_floats()
    with ExitStack() as stack:
        sessions: dict[str, Any] = {}
        threads = 0
        for case in cases:
            if case.ours:
                session = open_engine(load_engine(case.path), {"inference_precision": case.floats or "f32"})
                sessions[case.name] = stack.enter_context(session)
                threads = int(session.settings["threads"])
            elif case.floats is not None or default != "f32":
                infer = compile_openvino(case.path, threads, case.floats)
                sessions[case.name] = PeerSession(infer, preprocess, batch, threads)
        likeness = {name: correlate(session.run(batch), expected) for name, session in sessions.items()}
        wrong = {name: value for name, value in likeness.items() if not value >= LEAST_LIKENESS}
        right = {name: session for name, session in sessions.items() if name not in wrong}
        found = measure_latency(
            right, batch, seconds=timing.seconds, runs=timing.runs, rounds=timing.rounds, progress=progress
        )
        judged = [name for name in sessions if validation is not None and is_judged(name)]
        pixels = np.load(validation, mmap_mode="r") if validation is not None else batch
        logits = {name: _answer(sessions[name], pixels) for name in judged}
    return Found(found, logits, wrong, default)


def is_judged(name: str) -> bool:
    """Whether accuracy is asked of an engine: not of peers in float, nor where only the tokens are not padded."""
    return not name.startswith(TIMM) and not name.endswith(UNPADDED)


def correlate(answer: Values, expected: Values) -> float:
    """Pearson's; not a number where the answer is constant, or not finite."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.corrcoef(answer.ravel(), expected.ravel())[0, 1])


def read_default_floats() -> str:
    """The type that OpenVINO computes float models in on processors of this process's tier, if it is not told.

    It asks the processor itself, not oneDNN's limit, and would choose bfloat16 under a limit that has no kernels of it.
    """
    tier = read_tier()
    if tier is None or not TIERS[tier].bf16:
        return "f32"
    import openvino
    from openvino import opset13 as ops

    value = ops.parameter([1, 8], np.float32)
    model = openvino.Model([ops.relu(value)], [value], "probe")
    compiled = openvino.Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    return str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())


def _answer(session: Any, pixels: Pixels) -> Values:
    answer = session.answer if isinstance(session, PeerSession) else session.run
    return np.concatenate([np.array(answer(np.ascontiguousarray(image[None]))) for image in pixels])
