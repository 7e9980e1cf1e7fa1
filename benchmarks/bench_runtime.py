"""What the Python runtime adds: the start of a process, and each call over the engine library's own.

    python -m benchmarks.bench_runtime start BUNDLE IMAGE [--rounds 20] [--before CHECKOUT]
    python -m benchmarks.bench_runtime overhead BUNDLE

``start``: whole processes take turns, A B, B A and so on. Each opens the bundle, classifies one image, prints and ends.
``kept`` takes what OpenVINO compiled from the cache, ``compiled`` compiles; ``before`` is another checkout of edgevit.
Wall time is from the process's start to its printed answer as the parent sees it, the processor's time is what the
process has used by then. On a busy machine read the latter. The cache is one of the run's own.

``overhead``: the processor's time that a call adds, with a request that answers at once in place of OpenVINO's, of
``Session.run_outputs`` and of ``classify`` or its like without resizing; beside the least time of OpenVINO's own
request. The least of many repetitions, so it may run on a busy machine.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import numpy as np

from edgevit.measure.intervals import ratio_of_medians
from edgevit.pixels.preprocess import Preprocess
from edgevit.runtime import open_bundle

MOST_OVERHEAD = 0.01
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


class _AtOnce:
    """A request that has answered already."""

    def __init__(self, results: Any) -> None:
        self._results = results

    def infer(self, inputs: object, share_inputs: bool) -> Any:
        return self._results


def measure_overhead(bundle: Path, repetitions: int = 15) -> dict[str, float]:
    """Milliseconds: of the bare request, and what ``session`` and ``whole`` add to it."""
    with open_bundle(bundle, settings={"streams": 1}) as predictor:
        predictor.warm_up()
        sides = predictor.preprocess.height, predictor.preprocess.width
        image = np.random.default_rng(0).integers(0, 256, (*sides, 3), np.uint8)
        requests = cast(Any, predictor.session)._executor._requests
        request = requests.get()
        bare = _time(lambda: request.infer({0: image[None]}, share_inputs=True), time.perf_counter, 1, 20 * repetitions)
        requests.put(_AtOnce(request.infer({0: image[None]}, share_inputs=True)))
        answer = getattr(predictor, predictor.manifest.task)
        with patch.object(Preprocess, "apply", lambda self, image, **options: image):
            added = {
                "session": _time(
                    lambda: predictor.session.run_outputs(image[None]), time.thread_time, 500, repetitions
                ),
                "whole": _time(lambda: answer(image), time.thread_time, 500, repetitions),
            }
        requests.get()
        requests.put(request)
    return {"bare": bare, **added}


def _time(call: Callable[[], object], clock: Callable[[], float], calls: int, repetitions: int) -> float:
    """Milliseconds of a call in the fastest repetition."""
    least = math.inf
    for _ in range(repetitions):
        begin = clock()
        for _ in range(calls):
            call()
        least = min(least, clock() - begin)
    return 1e3 * least / calls


def main() -> int:
    """Exit status 1 where a call costs more than 1 % over the bare engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["start", "overhead"])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("image", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    options = parser.parse_args()
    if options.what == "start":
        if options.image is None:
            parser.error("start takes an image")
        show_start(measure_start(options.bundle, options.image, options.rounds, options.before))
        return 0
    found = measure_overhead(options.bundle)
    for name in ("session", "whole"):
        print(f"{name:8} adds {1e3 * found[name]:.1f} µs to {found['bare']:.2f} ms: {found[name] / found['bare']:.2%}")
    return 0 if found["whole"] <= MOST_OVERHEAD * found["bare"] else 1


if __name__ == "__main__":
    sys.exit(main())
