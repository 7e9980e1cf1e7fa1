"""Our engines and their peers under each of this processor's tiers: instruction sets, from older to newer.

Every tier has a process that oneDNN's limit keeps from anything newer; all engines are open in it and take turns.
Peers are NNCF's default engines of timm's TorchScript and dynamo exports, and these exports in float, each twice: with
float32 around the INT8, and with OpenVINO's own default, which is bfloat16 where the processor has it. Ratios are set
against the faster of the two exports. Peers get normalised float pixels for nothing; ours takes the uint8 image.

    python -m benchmarks.bench_tiers [--models deit_tiny_imagenet …] [--tiers avx2 …] [--work DIR] [--prepare]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.int8_accuracy import summarize_accuracy
from benchmarks.int8_models import MODELS, BenchModel, find_assets, load_pair, read_images
from benchmarks.peers import Values
from benchmarks.tier_bars import DEFAULT_TIERS, OURS, compare_engines, list_absent
from benchmarks.tier_files import TierFiles, prepare_files
from benchmarks.tier_table import list_outcomes, name_absent, render_table, show_outcome
from benchmarks.tier_timing import Found, Timing, measure_tier, plan_cases
from edgevit.build.tier_process import run_under
from edgevit.core import schema
from edgevit.core.errors import EdgevitError
from edgevit.core.isa import TIERS, TierName, list_tiers, read_tier
from edgevit.measure.machine.local import describe_machine, list_measuring_risks
from edgevit.measure.reference import run_module
from edgevit.models.model import Model
from edgevit.pixels.images import ImageSet

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("nncf", "timm")


@dataclass(frozen=True)
class Setup:
    """One model with everything that its engines are judged by.

    Attributes:
        validation: Images, their pixels in NumPy's format and the float model's logits; ``None`` where none are judged.
        expected: ``(1, K) float32``, the float model's answer to the image that is timed.
    """

    model: Model
    files: TierFiles
    calibration: ImageSet
    batch: Any
    expected: Values
    validation: tuple[ImageSet, Path, Values] | None


def prepare_setup(bench: BenchModel, options: argparse.Namespace, work: Path, temporary: Path) -> Setup:
    """Engines from the work folder, or made into it; answers of the float model."""
    assets = find_assets()
    model, module, _ = load_pair(bench, assets, temporary)
    images = read_images(bench, model, assets, "calibration", options.calibration, temporary)
    folder = work / bench.name
    files = prepare_files(
        model, module, images, folder, keep_ours=options.keep_ours, say=lambda text: say(f"{bench.name}: {text}")
    )
    batch = next(iter(images.batches(model.preprocess, 1))).pixels
    run = run_module(model)
    validation = None
    if bench.real and not (options.skip_accuracy or options.prepare):
        judged = read_images(bench, model, assets, "validation", options.validation, temporary)
        say(f"{bench.name}: the float model's answers to {len(judged)} images")
        height, width = model.config.image_size
        path = temporary / "validation.npy"
        pixels = np.lib.format.open_memmap(path, "w+", np.uint8, (len(judged), height, width, 3))
        logits = []
        for index, one in enumerate(judged.batches(model.preprocess, 1)):
            pixels[index] = one.pixels[0]
            logits.append(run(one.pixels))
        pixels.flush()
        validation = (judged, path, np.concatenate(logits))
    return Setup(model, files, images, batch, run(batch), validation)


def bench_tier(setup: Setup, tier: TierName, timing: Timing) -> dict[str, Any]:
    """One model's column."""
    planned = plan_cases(setup.files, tier)
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    path = setup.validation[1] if setup.validation is not None else None
    arguments = (planned.cases, setup.model.preprocess, setup.batch, setup.expected, path, timing)
    found: Found
    if tier == read_tier():  # in a fresh process like the others', where torch has started no threads
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found = pool.submit(measure_tier, *arguments).result()
    else:
        found = run_under(tier, measure_tier, *arguments)
    accuracy = {}
    if setup.validation is not None:
        judged, _, reference = setup.validation
        accuracy = {name: summarize_accuracy(logits, reference, judged) for name, logits in found.logits.items()}
    return {
        "default": found.default,
        "engines": {name: schema.to_data(value) for name, value in found.latency.latencies.items()},
        "ratios": compare_engines(found, accuracy),
        "accuracy": accuracy,
        "refused": dict(planned.refused),
        "wrong": dict(found.wrong),
        "load_average": load,
        "seconds": timing.seconds,
    }


def choose_tiers(asked: Collection[TierName] | None) -> tuple[TierName, ...]:
    """Those that this machine has, of what is asked for; by default the usual ones and its newest."""
    able = list_tiers()
    wanted = {*DEFAULT_TIERS, able[-1]} if asked is None else {*asked}
    return tuple(tier for tier in able if tier in wanted)


def say(text: str) -> None:
    """A line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Exit status 1 where a bar of a model and a tier that were run is missed, or one of our engines is wrong."""
    options = _parse()
    tiers = choose_tiers(options.tiers)
    machine = describe_machine()
    data = {"machine": schema.to_data(machine), "method": " ".join((__doc__ or "").split("\n\n")[1].split())}
    data["machine"]["packages"] |= _list_versions()
    data["absent"] = list_absent(options.tiers or (), list_tiers())
    file = RESULTS / f"{options.results}.json"
    rows = read_rows(file, data["machine"])
    say(name_absent(data["absent"]))
    for risk in list_measuring_risks(machine):
        say(risk)
    failed, run = [], []
    timing = Timing(options.seconds, options.runs, options.rounds)
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for bench in MODELS:
            if bench.name not in options.models:
                continue
            if bench.real and find_assets() is None:
                say(f"{bench.name}: left out, as the assets are absent: set EDGEVIT_ASSETS")
                continue
            run.append(bench.name)
            try:
                with tempfile.TemporaryDirectory() as temporary:
                    setup = prepare_setup(bench, options, work, Path(temporary))
                    if not options.prepare:
                        failed += _bench_model(setup, bench.name, tiers, timing, rows, lambda: _save(file, data, rows))
            except EdgevitError as exc:  # the other models' figures are still wanted
                say(f"{bench.name}: FAILED: {exc}")
                failed.append(bench.name)
    outcomes = [o for o in list_outcomes(rows) if o.bar.model in run and o.bar.path[1] in tiers]
    if not options.prepare:
        for outcome in outcomes:
            print(" | ".join(show_outcome(outcome)))
    for name in failed:
        say(f"failed: {name}")
    return 1 if failed or (not options.prepare and any(outcome.status == "MISSED" for outcome in outcomes)) else 0


def _bench_model(
    setup: Setup,
    name: str,
    tiers: Collection[TierName],
    timing: Timing,
    rows: dict[str, Any],
    save: Callable[[], None],
) -> list[str]:
    """Add a model's columns to its row, and say which of our engines are wrong; saved behind every tier."""
    head = {"digest": setup.files.digest, "code": setup.files.code, "calibration_images": len(setup.calibration)}
    row = rows.get(name, {})
    if any(row.get(key) != value for key, value in head.items()):
        row = {**head, "tiers": {}}  # figures of other engines do not belong beside these
    rows[name] = row
    failed = []
    for tier in tiers:
        say(f"{name}: {TIERS[tier].title}")
        try:
            row["tiers"][tier] = bench_tier(setup, tier, timing)
        except (EdgevitError, RuntimeError) as exc:  # a library's; the other tiers' figures are still wanted
            row["tiers"].pop(tier, None)
            failed.append(f"{name}, {TIERS[tier].title}: {exc}")
            continue
        save()
        wrong = [engine for engine in row["tiers"][tier]["wrong"] if engine in OURS]
        failed += [f"{name}, {TIERS[tier].title}: {engine} computes something else" for engine in wrong]
    return failed


def _save(file: Path, data: dict[str, Any], rows: dict[str, Any]) -> None:
    data["rows"] = {model.name: rows[model.name] for model in MODELS if model.name in rows}
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(render_table(data), encoding="utf-8")


def read_rows(file: Path, machine: dict[str, Any]) -> dict[str, Any]:
    """Rows of earlier runs on this processor; those of another do not belong into one table.

    Args:
        file: Of the results.
        machine: This one; processors of one name differ in their instructions.
    """
    if not file.is_file():
        return {}
    data = json.loads(file.read_text(encoding="utf-8"))
    if any(data["machine"][key] != machine[key] for key in ("cpu", "isa")):
        say(f"figures of earlier runs are dropped: they were measured on {data['machine']['cpu']}")
        return {}
    rows: dict[str, Any] = data["rows"]
    return rows


def _list_versions() -> dict[str, str]:
    from importlib import metadata

    return {name: metadata.version(name) for name in PACKAGES}


def _parse() -> argparse.Namespace:
    names = [bench.name for bench in MODELS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=names, choices=names, metavar="MODEL", help=", ".join(names))
    parser.add_argument("--tiers", nargs="*", choices=list(TIERS), metavar="TIER", help=", ".join(TIERS))
    parser.add_argument("--seconds", type=float, default=8.0, help="timed seconds per engine and tier")
    parser.add_argument("--runs", type=int, default=50, help="timed calls per engine and tier at least")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--calibration", type=int, default=512, help="calibration images, for all quantisers")
    parser.add_argument("--validation", type=int, help="validation images; all by default")
    parser.add_argument("--skip-accuracy", action="store_true")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where engines are kept for the next run")
    parser.add_argument("--prepare", action="store_true", help="make the engines in --work, and measure nothing")
    parser.add_argument(
        "--keep-ours", action="store_true", help="our engines in --work, also where edgevit's code has changed since"
    )
    parser.add_argument("--results", default="tiers", metavar="NAME", help="of the files; one a processor (tiers)")
    options = parser.parse_args()
    if options.prepare and options.work is None:
        parser.error("--prepare takes --work DIR")
    return options


if __name__ == "__main__":
    sys.exit(main())
