"""What the Python runtime adds: the start of a process, and each call over the engine library's own.

    python -m benchmarks.bench_runtime start BUNDLE IMAGE [--rounds 20] [--before CHECKOUT]
    python -m benchmarks.bench_runtime overhead BUNDLE [--seconds 20]

``start``: whole processes take turns, A B, B A and so on. Each opens the bundle, classifies one image, prints and ends.
``kept`` takes what OpenVINO compiled from the cache, ``compiled`` compiles; ``before`` is another checkout of edgevit.
Wall time is from the process's start to its printed answer as the parent sees it, the processor's time is what the
process has used by then. On a busy machine read the latter. The cache is one of the run's own.

``overhead``: in one process a prepared batch goes to OpenVINO's request, to ``Session.run_outputs`` and, as pixels of
the input's size, to the whole ``classify`` or its like, in turns (:func:`edgevit.measure.latency.measure_latency`).
All three use the same request.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgevit.measure.intervals import ratio_of_medians
from edgevit.measure.latency import measure_latency
from edgevit.runtime import Predictor, Session, open_bundle
from edgevit.runtime.session import Outputs

MOST_OVERHEAD = 1.01
_APP = """
import sys, time
from edgevit.runtime import open_bundle
options = {"keep_compiled": False} if sys.argv[3] == "compiled" else {}
with open_bundle(sys.argv[1], **options) as predictor:
    answer = getattr(predictor, predictor.manifest.task)(sys.argv[2])
    print(time.process_time(), flush=True)
"""


def start_process(bundle: Path, image: Path, kind: str, package: Path, cache: Path) -> tuple[float, float]:
    """Wall and processor's milliseconds from the start of a process to its answer."""
    environment = {**os.environ, "PYTHONPATH": str(package), "EDGEVIT_CACHE": str(cache)}
    command = [sys.executable, "-c", _APP, str(bundle.resolve()), str(image.resolve()), kind]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=cache) as child:
        assert child.stdout is not None
        used = child.stdout.readline()
        wall = time.perf_counter() - begin
    if child.returncode != 0:
        raise SystemExit(f"the process of {kind} failed")
    return 1e3 * wall, 1e3 * float(used)


def measure_start(bundle: Path, image: Path, rounds: int, before: Path | None) -> dict[str, list[tuple[float, float]]]:
    """Figures by kind, one pair a round."""
    here = Path(__file__).resolve().parents[1]
    packages = {"kept": here, "compiled": here, **({"before": before} if before else {})}
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in packages}
    with tempfile.TemporaryDirectory(prefix="edgevit-start-") as cache:
        for kind, package in packages.items():
            start_process(bundle, image, kind, package, Path(cache))
        for turn in range(rounds):
            for kind in list(packages) if turn % 2 == 0 else reversed(packages):
                found[kind].append(start_process(bundle, image, kind, packages[kind], Path(cache)))
    return found


def show_start(found: Mapping[str, list[tuple[float, float]]]) -> None:
    """A line a kind: least and median of wall and of processor's time, and the ratios to the first."""
    for place, what in ((0, "wall"), (1, "processor")):
        kept = [figures[place] for figures in found["kept"]]
        for kind, figures in found.items():
            values = [figure[place] for figure in figures]
            ratio, low, high = ratio_of_medians(kept, values)
            print(
                f"{what:10} {kind:9} least {min(values):7.0f} ms, median {statistics.median(values):7.0f} ms; "
                f"kept / {kind} {ratio:.3f} ({low:.3f} to {high:.3f})"
            )


class _Bare:
    """The library's request, called as little as possible."""

    def __init__(self, session: Session) -> None:
        self.settings = session.settings
        self._requests = cast(Any, session)._executor._requests

    def run_outputs(self, batch: np.ndarray[Any, Any]) -> Outputs:
        request = self._requests.get()
        results = request.infer({0: batch}, share_inputs=True)
        self._requests.put(request)
        return tuple(results.values())


class _Whole:
    """What an app calls, of pixels that need no resizing."""

    def __init__(self, predictor: Predictor) -> None:
        self.settings = predictor.settings
        self._answer = getattr(predictor, predictor.manifest.task)

    def run_outputs(self, batch: np.ndarray[Any, Any]) -> Outputs:
        self._answer(batch[0])
        return ()


def measure_overhead(bundle: Path, seconds: float) -> dict[str, tuple[float, float, float]]:
    """Ratios to the bare request, with intervals."""
    with open_bundle(bundle) as predictor:
        predictor.warm_up()
        sides = predictor.preprocess.height, predictor.preprocess.width
        batch = np.random.default_rng(0).integers(0, 256, (1, *sides, 3), np.uint8)
        sessions = {"bare": _Bare(predictor.session), "session": predictor.session, "whole": _Whole(predictor)}
        measured = measure_latency(cast(Any, sessions), batch, seconds=seconds, rounds=100)
    medians = measured.round_medians_ms
    for name, latency in measured.latencies.items():
        print(f"{name:8} p50 {latency.p50_ms:.3f} ms, {latency.runs} calls")
    return {name: ratio_of_medians(medians[name], medians["bare"]) for name in ("session", "whole")}


def main() -> int:
    """Exit status 1 where a call costs more than 1 % over the bare engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["start", "overhead"])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("image", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    if options.what == "start":
        if options.image is None:
            parser.error("start takes an image")
        show_start(measure_start(options.bundle, options.image, options.rounds, options.before))
        return 0
    ratios = measure_overhead(options.bundle, options.seconds)
    for name, (ratio, low, high) in ratios.items():
        print(f"{name} / bare {ratio:.4f} ({low:.4f} to {high:.4f})")
    return 0 if ratios["session"][0] <= MOST_OVERHEAD else 1


if __name__ == "__main__":
    sys.exit(main())
