"""``python -m edgevit.remote.fleet.try_bundle BUNDLE ANSWERS``: a bundle's canary and a short bench, on a board.

What it found is one JSON document on standard output, a :class:`edgevit.remote.fleet.trial.Trial`; the engine's answers
to the canary are written to ``ANSWERS``. An error is a JSON document with ``error`` and ``hint``, and the status 2.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
import traceback
from pathlib import Path

import numpy as np

from edgevit.core.errors import BundleError, EdgevitError, last_line
from edgevit.core.progress import ignore_progress
from edgevit.core.schema import to_data
from edgevit.measure.latency import measure_latency
from edgevit.measure.machine.local import describe_machine
from edgevit.measure.machine.watch import Watch
from edgevit.remote.fleet.trial import Trial
from edgevit.runtime import open_bundle
from edgevit.runtime.bundle import load_bundle, verify_bundle
from edgevit.runtime.canary import measure_sqnr, try_canary
from edgevit.runtime.canary_file import read_canary
from edgevit.runtime.session import Outputs, get_runtime


def try_bundle(path: str | os.PathLike[str], *, runs: int, seconds: float) -> tuple[Trial, Outputs]:
    """Answer the bundle's canary, whatever is remembered, and time it for a short while where it passes.

    Args:
        path: A finished bundle.
        runs: Least number of timed calls, of the bundle's usual number of images.
        seconds: Least time in them.

    Returns:
        What was found, and the engine's answers to the canary.

    Raises:
        BundleError: The bundle is damaged, has no engine or no canary, or does not fit this machine.
        DeviceError: The engine does not open, or fails.
    """
    bundle = verify_bundle(load_bundle(path))
    engine, record, machine = bundle.engine, bundle.manifest.canary, describe_machine()
    if record is None:
        raise BundleError(f"{path} has no canary", "build it again", code="canary")
    with open_bundle(path, verify=False, check="never") as predictor:
        session = predictor.session
        canary = try_canary(bundle, session, "always")
        print(f"canary: {canary.describe()}", file=sys.stderr, flush=True)
        pixels = read_canary(bundle, record).pixels
        answers = session.run_outputs(pixels)
        repeat_db = measure_sqnr(answers, session.run_outputs(pixels))
        place = get_runtime(engine.backend).describe_place(engine, predictor.settings)
        trial = Trial(machine, place, canary, repeat_db if math.isfinite(repeat_db) else None)
        if canary.status != "passed":
            return trial, answers
        watch, size = Watch(ignore_progress), bundle.manifest.batch[1]
        shape = (size, bundle.manifest.preprocess.height, bundle.manifest.preprocess.width, 3)
        batch = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        measured = measure_latency({"": session}, batch, runs=runs, seconds=seconds, progress=watch)
    latency = measured.latencies[""]
    print(f"latency: {latency.runs} calls in {latency.seconds:.1f} s", file=sys.stderr, flush=True)
    medians = measured.round_medians_ms[""]
    return dataclasses.replace(trial, latency=latency, round_medians_ms=medians, conditions=watch.conditions), answers


def main(arguments: list[str]) -> int:
    """0 where the canary passed, 1 where it failed, 2 after an error."""
    said = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")  # a library that prints must not spoil it
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    options = argparse.ArgumentParser()
    options.add_argument("bundle")
    options.add_argument("answers")
    options.add_argument("--runs", type=int, required=True)
    options.add_argument("--seconds", type=float, required=True)
    asked = options.parse_args(arguments)
    with said:
        try:
            trial, answers = try_bundle(asked.bundle, runs=asked.runs, seconds=asked.seconds)
        except EdgevitError as exc:
            json.dump({"error": exc.message, "hint": exc.hint}, said)
            return 2
        except Exception as exc:  # its traceback's own status would be taken for a canary that failed
            traceback.print_exc()
            hint = "a defect of edgevit; the lines above show where"
            json.dump({"error": f"unexpected {type(exc).__name__}: {last_line(exc)}", "hint": hint}, said)
            return 2
        Path(asked.answers).parent.mkdir(parents=True, exist_ok=True)
        np.savez(asked.answers, **{str(index): array for index, array in enumerate(answers)})  # type: ignore[arg-type]
        json.dump(to_data(trial), said)
    return 0 if trial.canary.status == "passed" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
