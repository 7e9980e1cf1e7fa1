"""Our INT8 engines against NNCF's, ONNX Runtime's and Model Optimizer's of timm's exports of the same weights.

All are made from the same calibration images, and run in one process with the same thread count; those in OpenVINO
with the same hint and float32 arithmetic around the INT8. Latencies are taken in turns. The latency bar is set against
the faster of NNCF's two default engines (timm's TorchScript and dynamo exports). Peers get normalised float pixels for
nothing; ours takes the uint8 image. Accuracy and latency are the same engine's.

    python -m benchmarks.bench_int8 [--models deit_tiny_imagenet …] [--seconds 20] [--skip-accuracy] [--cost]
                                    [--modelopt-python PATH [--modelopt-only]]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bars import OURS, SYMMETRIC, Outcome, judge_bars
from benchmarks.gemm_rate import measure_distance
from benchmarks.int8_accuracy import collect_logits, summarize_accuracy
from benchmarks.int8_models import MODELS, BenchModel, find_assets, load_pair, read_images
from benchmarks.int8_table import render_table, show_figure
from benchmarks.peer_quantizers import (
    MODELOPT_METHODS,
    SMOOTHING,
    PeerError,
    find_modelopt,
    quantize_modelopt,
    quantize_nncf,
    quantize_onnxruntime,
)
from benchmarks.peers import EXPORTERS, PeerSession, Pixels, Values, compile_onnxruntime, compile_openvino, export_timm
from benchmarks.quantization_cost import measure_cost
from edgevit.build.prepare_quantized import prepare_quantized
from edgevit.core import schema
from edgevit.core.cache import StageCache
from edgevit.core.cores import choose_threads
from edgevit.core.errors import EdgevitError
from edgevit.core.progress import ignore_progress
from edgevit.core.recipe import load_recipe
from edgevit.core.target import load_target
from edgevit.engines.compile import compile_engine
from edgevit.measure.latency import measure_latency
from edgevit.measure.machine.local import describe_machine
from edgevit.measure.reference import run_module
from edgevit.models.model import Model
from edgevit.pixels.images import ImageSet
from edgevit.runtime.session import Session, open_engine

RESULTS = Path(__file__).parent / "results"
MODELOPT = "Model Optimizer"
"""Every engine's name of it begins with it."""

TARGET, SYMMETRIC_TARGET = "intel-cpu", "jetson-orin-nano"
PACKAGES = ("nncf", "timm", "nvidia-modelopt")


@dataclass(frozen=True)
class Setup:
    """One model with everything that its engines are made from."""

    bench: BenchModel
    model: Model
    module: Any
    checkpoint: Path
    images: ImageSet
    pixels: list[Pixels]
    options: argparse.Namespace
    folder: Path


def build_ours(model: Model, target: str, images: ImageSet) -> tuple[Path, float | None]:
    """Our quantised ONNX file for a target, by the default recipe, and the seconds that quantising took."""
    recipe = load_recipe("default")
    made = prepare_quantized("int8", model, load_target(target), recipe, images, StageCache(), ignore_progress)
    seconds = made.record.seconds
    return made.path, sum(seconds.values()) if seconds else None


def bench_model(setup: Setup, keep: dict[str, Any], save: Callable[[dict[str, Any]], None]) -> None:
    """Measure a model's sections; each is saved when it is done.

    Args:
        setup: The model.
        keep: Its row of an earlier run; sections of another engine are dropped.
        save: Takes the row so far.
    """
    options, name, folder = setup.options, setup.bench.name, setup.folder
    say(f"{name}: ours")
    path, seconds = build_ours(setup.model, TARGET, setup.images)
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(path.parent.glob(f"{path.stem}.*")))).hexdigest()
    row = dict(keep) if keep.get("engine_sha256") == digest else {}
    row |= {"engine_sha256": digest, "calibration_images": len(setup.images)}
    engine = compile_engine(path, load_target(TARGET), "int8", folder / "engine")
    exports = {exporter: _export(setup, exporter) for exporter in EXPORTERS}
    with open_engine(engine, {"inference_precision": "f32"}) as ours:
        peers = open_peers(setup, exports, int(ours.settings["threads"]))
        check_answers(setup, ours, peers)
        say(f"{name}: latency")
        row["latency"] = time_engines(setup, ours, peers, path)
        save(row)
        if setup.bench.real and not options.skip_accuracy:
            row["accuracy"] = judge_engines(setup, ours, peers, exports["torchscript"], seconds)
            save(row)
    if setup.bench.cost and options.cost:
        say(f"{name}: cost of quantising with {options.cost_images} images")
        row["cost"] = bench_cost(setup, exports["torchscript"])
        save(row)


def open_peers(setup: Setup, exports: dict[str, Path], threads: int) -> dict[str, PeerSession]:
    """The peers whose latency counts: NNCF's default of both exports, and ONNX Runtime's."""
    batch, preprocess = setup.pixels[0], setup.model.preprocess
    peers = {}
    for exporter, source in exports.items():
        say(f"{setup.bench.name}: NNCF default, {exporter}")
        out = quantize_nncf(source, setup.folder / f"nncf-{exporter}.xml", setup.pixels, preprocess)
        peers[f"NNCF default, {exporter}"] = PeerSession(compile_openvino(out, threads), preprocess, batch, threads)
    say(f"{setup.bench.name}: ONNX Runtime static Q/DQ")
    out = quantize_onnxruntime(exports["torchscript"], setup.folder / "ort.onnx", setup.pixels, preprocess)
    infer = compile_onnxruntime(out, threads)
    return {**peers, "ONNX Runtime static Q/DQ": PeerSession(infer, preprocess, batch, threads)}


def check_answers(setup: Setup, ours: Session, peers: dict[str, PeerSession]) -> None:
    """Before anything is timed: every engine computes this model.

    INT8 answers differ, so the test is a coarse one: their correlation with the float model's.
    """
    batch = setup.pixels[0]
    expected = run_module(setup.model)(batch).ravel()
    sessions: dict[str, Any] = {OURS: ours, **peers}
    for name, session in sessions.items():
        likeness = float(np.corrcoef(session.run(batch).ravel(), expected)[0, 1])
        if not likeness > 0.5:
            raise SystemExit(f"{setup.bench.name}: {name} correlates with the float model by {likeness:.2f} only")


def time_engines(setup: Setup, ours: Session, peers: dict[str, PeerSession], path: Path) -> dict[str, Any]:
    """Latencies in turns, ratios of ours to each, and the distance to the machine."""
    options, batch = setup.options, setup.pixels[0]
    sessions: Any = {OURS: ours, **peers}
    found = measure_latency(sessions, batch, seconds=options.seconds, runs=options.runs, rounds=options.rounds)
    ratios = {peer: schema.to_data(found.ratio(OURS, peer)) for peer in peers}
    nncf = [peer for peer in peers if peer.startswith("NNCF")]
    fastest = min(nncf, key=lambda peer: found.latencies[peer].p50_ms)
    return {
        "engines": {name: schema.to_data(value) for name, value in found.latencies.items()},
        "ratios": ratios,
        "peer": fastest,
        "ratio": ratios[fastest],
        "distance": measure_distance(path, ours, batch, options.seconds / 8, 10),
    }


def judge_engines(
    setup: Setup, ours: Session, peers: dict[str, PeerSession], source: Path, seconds: float | None
) -> dict[str, Any]:
    """Accuracy on the validation images of every engine that was timed, and of those that only accuracy is asked of."""
    model, name, folder = setup.model, setup.bench.name, setup.folder
    images = read_images(setup.bench, model, find_assets(), "validation", setup.options.validation, folder)
    threads, batch, preprocess = int(ours.settings["threads"]), setup.pixels[0], model.preprocess
    reference = collect_logits(run_module(model), images, preprocess)
    table: dict[str, Any] = {}

    def judge(engine: str, run: Callable[[Pixels], Any], taken: float | None = None) -> None:
        say(f"{name}: accuracy of {engine}")
        table[engine] = summarize_accuracy(collect_logits(run, images, preprocess), reference, images)
        if taken is not None:
            table[engine]["quantise_seconds"] = taken

    judge(OURS, ours.run, seconds)
    path, taken = build_ours(model, SYMMETRIC_TARGET, setup.images)
    judge(SYMMETRIC, compile_onnxruntime(path, threads), taken)
    for peer, session in peers.items():
        judge(peer, session.answer)
    for label, alpha in SMOOTHING:
        started = time.perf_counter()
        out = quantize_nncf(source, folder / f"nncf-{alpha}.xml", setup.pixels, preprocess, alpha)
        taken = time.perf_counter() - started
        infer = compile_openvino(out, threads)
        judge(f"NNCF {label}, torchscript", PeerSession(infer, preprocess, batch, threads).answer, taken)
    return {**table, **judge_modelopt(setup, source, threads, images, reference)}


def judge_modelopt(
    setup: Setup, source: Path, threads: int, images: ImageSet, reference: Values
) -> dict[str, dict[str, Any]]:
    """Accuracy of Model Optimizer's engines in ONNX Runtime; a note instead where one can't be made.

    Args:
        setup: The model.
        source: timm's export.
        threads: Of ONNX Runtime.
        images: Validation images.
        reference: ``(N, K)`` the float module's logits.
    """
    python, preprocess = find_modelopt(setup.options.modelopt_python), setup.model.preprocess
    if python is None:
        return {f"{MODELOPT} INT8": {"note": "not installed"}}
    table: dict[str, dict[str, Any]] = {}
    for method in MODELOPT_METHODS:
        engine = f"{MODELOPT} INT8, {method}"
        say(f"{setup.bench.name}: {engine}")
        started = time.perf_counter()
        try:
            out = setup.folder / f"modelopt-{method}.onnx"
            version = quantize_modelopt(python, source, out, setup.pixels, preprocess, method)
            taken = time.perf_counter() - started
            session = PeerSession(compile_onnxruntime(out, threads), preprocess, setup.pixels[0], threads)
            found = summarize_accuracy(collect_logits(session.answer, images, preprocess), reference, images)
            table[engine] = {**found, "quantise_seconds": taken, "version": version}
        except PeerError as exc:  # no bar needs it, and the others' figures are kept
            table[engine] = {"note": f"failed: {exc}"}
    return table


def add_modelopt(setup: Setup, keep: dict[str, Any], save: Callable[[dict[str, Any]], None]) -> None:
    """Only Model Optimizer's rows, beside those of an earlier run with the same images; no engine of ours is made."""
    if not setup.bench.real or keep.get("calibration_images") != len(setup.images):
        say(f"{setup.bench.name}: left out, as there are no figures with these calibration images to put it beside")
        return
    images = read_images(setup.bench, setup.model, find_assets(), "validation", setup.options.validation, setup.folder)
    reference = collect_logits(run_module(setup.model), images, setup.model.preprocess)
    threads = choose_threads()
    found = judge_modelopt(setup, _export(setup, "torchscript"), threads, images, reference)
    machine = schema.to_data(describe_machine())  # the file's own is that of the engines beside them
    found = {name: {**row, "machine": machine} for name, row in found.items()}
    others = {name: row for name, row in keep.get("accuracy", {}).items() if not name.startswith(MODELOPT)}
    save({**keep, "accuracy": {**others, **found}})


def bench_cost(setup: Setup, source: Path) -> dict[str, Any]:
    """Time and memory of quantising with ``--cost-images`` images."""
    folder = setup.folder / "cost"
    folder.mkdir()
    assets = find_assets()
    listed = setup.images.root if assets is None else assets / setup.bench.images / "calibration.csv"
    return measure_cost(setup.checkpoint, setup.model.preprocess, source, listed, setup.options.cost_images, folder)


def _export(setup: Setup, exporter: str) -> Path:
    folder = setup.folder / exporter
    folder.mkdir()
    return export_timm(setup.module, setup.model.config.image_size, exporter, folder / "timm.onnx")


def say(text: str) -> None:
    """A line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Exit status 1 where a bar of a model that was run is missed."""
    options = _parse()
    assets = find_assets()
    machine = schema.to_data(describe_machine())
    machine["packages"] |= _list_versions()
    file = RESULTS / f"{options.results}.json"
    data: dict[str, Any] = {"machine": machine, "method": " ".join((__doc__ or "").split("\n\n")[1].split())}
    rows = _read_rows(file, machine["cpu"])
    if options.modelopt_only and rows:
        data["machine"] = json.loads(file.read_text(encoding="utf-8"))["machine"]
    failed = []
    for bench in MODELS:
        if bench.name not in options.models:
            continue
        if bench.real and assets is None:
            say(f"{bench.name}: left out, as the assets are absent: set EDGEVIT_ASSETS")
            continue

        def save(row: dict[str, Any], name: str = bench.name) -> None:
            rows[name] = row
            data["rows"] = {model.name: rows[model.name] for model in MODELS if model.name in rows}
            RESULTS.mkdir(exist_ok=True)
            file.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            file.with_suffix(".md").write_text(render_table(data), encoding="utf-8")

        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            model, module, checkpoint = load_pair(bench, assets, folder)
            images = read_images(bench, model, assets, "calibration", options.calibration, folder)
            pixels = [batch.pixels for batch in images.batches(model.preprocess, 1)]
            setup = Setup(bench, model, module, checkpoint, images, pixels, options, folder)
            try:
                measure = add_modelopt if options.modelopt_only else bench_model
                measure(setup, rows.get(bench.name, {}), save)
            except EdgevitError as exc:  # ours; the other models' figures are still wanted
                say(f"{bench.name}: FAILED: {exc}")
                failed.append(bench.name)
    outcomes = [outcome for outcome in judge_bars(rows) if outcome.bar.model in options.models]
    for outcome in outcomes:
        print(_show(outcome))
    return 1 if failed or any(outcome.status == "MISSED" for outcome in outcomes) else 0


def _show(outcome: Outcome) -> str:
    bar = outcome.bar
    measured = show_figure({"value": outcome.value, "low": outcome.low, "high": outcome.high}, 3)
    limit = f"{bar.limit} ({outcome.limit:.3f})" if isinstance(bar.limit, str) and outcome.limit else bar.limit
    return f"{bar.model:<30} {bar.label:<42} {measured:<26} {bar.relation} {limit}  {outcome.status}"


def _read_rows(file: Path, cpu: str) -> dict[str, Any]:
    """Rows of earlier runs on this processor; those of another do not belong into one table."""
    if not file.is_file():
        return {}
    data = json.loads(file.read_text(encoding="utf-8"))
    if data["machine"]["cpu"] != cpu:
        say(f"figures of earlier runs are dropped: they were measured on {data['machine']['cpu']}")
        return {}
    rows: dict[str, Any] = data["rows"]
    return rows


def _list_versions() -> dict[str, str]:
    from importlib import metadata

    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _parse() -> argparse.Namespace:
    names = [bench.name for bench in MODELS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=names, choices=names, metavar="MODEL", help=", ".join(names))
    parser.add_argument("--seconds", type=float, default=20.0, help="timed seconds per engine")
    parser.add_argument("--runs", type=int, default=100, help="timed calls per engine at least")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--calibration", type=int, default=512, help="calibration images, for all quantisers")
    parser.add_argument("--validation", type=int, help="validation images; all by default")
    parser.add_argument("--skip-accuracy", action="store_true")
    parser.add_argument("--cost", action="store_true", help="also time and peak memory of quantising")
    parser.add_argument("--cost-images", type=int, default=512)
    parser.add_argument(
        "--modelopt-python",
        metavar="PATH",
        default=os.environ.get("EDGEVIT_MODELOPT_PYTHON"),
        help="Python of an environment with nvidia-modelopt ($EDGEVIT_MODELOPT_PYTHON)",
    )
    parser.add_argument("--modelopt-only", action="store_true", help="only its rows; the others stay as they are")
    parser.add_argument("--results", default="int8", metavar="NAME", help="of the files; one a processor (int8)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
