"""Noise, agreement and latency of a whole model's engines under one tier, in this process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peer_quantizers import normalize
from edgevit.core.isa import TIERS, read_tier
from edgevit.core.progress import Progress, ignore_progress
from edgevit.runtime.manifest import load_manifest

Pixels = npt.NDArray[np.uint8]
OURS, FLOAT = "edgevit", "float32"
_RUNS = 4  # of an engine in a turn


@dataclass(frozen=True)
class Found:
    """What was seen of one engine.

    Attributes:
        sqnr_db: Of the map against float32's.
        agreement: IoU of the pixels above 0.5.
        milliseconds: The median of a turn, one for each round.
    """

    sqnr_db: float
    agreement: float
    milliseconds: tuple[float, ...]


def measure(
    peers: Mapping[str, Path], bundle: Path, pixels: Pixels, rounds: int, progress: Progress = ignore_progress
) -> dict[str, Found]:
    """Noise, agreement and latency of every engine, in this process."""
    import openvino

    from edgevit.runtime import open_bundle

    preprocess = load_manifest(bundle).preprocess
    floats = normalize(pixels, preprocess)
    core = openvino.Core()

    def compile_peer(path: Path, settings: Mapping[str, str]) -> Any:
        model = core.read_model(str(path))
        model.reshape([1, 3, *floats.shape[2:]])
        compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", **settings})
        return lambda index: compiled(floats[index : index + 1])[0]

    # Peers twice: with float32 around the INT8, and in OpenVINO's own default where this processor computes bfloat16.
    runs = {name: compile_peer(path, {"INFERENCE_PRECISION_HINT": "f32"}) for name, path in peers.items()}
    tier = read_tier()
    if tier is not None and TIERS[tier].bf16:
        runs |= {f"{name}, bfloat16": compile_peer(path, {}) for name, path in peers.items()}
        ours = core.compile_model(core.read_model(str(bundle / "model.xml")), "CPU", {"PERFORMANCE_HINT": "LATENCY"})
        runs[f"{OURS}, bfloat16"] = lambda index: ours(pixels[index : index + 1])[0]
    with open_bundle(bundle) as predictor:
        runs[OURS] = lambda index: predictor.run_outputs(pixels[index : index + 1])[0]
        wanted = _answer_all(runs[FLOAT], len(pixels))
        judged = {name: _judge(_answer_all(run, len(pixels)), wanted) for name, run in runs.items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(rounds):
            for name in list(runs) if turn % 2 == 0 else list(runs)[::-1]:
                times[name].append(_time(runs[name]))
            progress("latency", turn + 1, rounds)
    return {name: Found(*judged[name], tuple(times[name])) for name in runs}


def _answer_all(run: Any, count: int) -> npt.NDArray[np.float32]:
    return np.concatenate([np.asarray(run(index)).reshape(1, -1) for index in range(count)])


def _judge(found: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> tuple[float, float]:
    noise = float(np.square(found - wanted, dtype=np.float64).sum())
    signal = float(np.square(wanted, dtype=np.float64).sum())
    ours, theirs = found > 0.5, wanted > 0.5
    both, either = (ours & theirs).sum(axis=1), (ours | theirs).sum(axis=1)
    agreement = float(np.mean(np.where(either > 0, both / np.maximum(either, 1), 1.0)))
    return 200.0 if noise == 0 else 10 * np.log10(signal / noise), agreement


def _time(run: Any) -> float:
    run(0)
    found = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        run(0)
        found.append(1e3 * (time.perf_counter() - start))
    return float(np.median(found))
