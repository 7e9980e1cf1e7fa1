"""Our float engines against OpenVINO models made from timm's own exports of the same weights.

Both run in one process, interleaved, on the same machine with the same OpenVINO, hint, threads and float32 arithmetic.
The peer is timm's ``onnx_export``, once with torch's dynamo exporter and once with TorchScript; the bar is set against
the faster of the two. The peer is given normalised float pixels for free; ours takes the uint8 image.

    python -m benchmarks.bench_float [--seconds 20] [--models deit_tiny_patch16_224 …]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import EXPORTERS, PeerSession, compile_openvino, export_timm
from edgevit.checkpoints import read_checkpoint
from edgevit.core import schema
from edgevit.core.target import load_target
from edgevit.engines.compile import compile_engine
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.measure.latency import LatencyComparison, measure_latency
from edgevit.measure.machine.local import describe_machine
from edgevit.models.export import export_model
from edgevit.runtime.session import open_engine
from tests.support.reference import import_timm, randomise, save_timm_folder

MODELS = ("deit_tiny_patch16_224", "deit_small_patch16_224", "swin_tiny_patch4_window7_224")
BAR = 0.95
RESULTS = Path(__file__).parent / "results" / "float.json"


def bench_model(name: str, seconds: float, rounds: int, folder: Path) -> dict[str, Any]:
    """Build ours and both peers from the same random weights, check that they agree, and time them."""
    timm = import_timm()
    module = randomise(timm.create_model(name))
    save_timm_folder(module, folder / "checkpoint")
    model = read_checkpoint(folder / "checkpoint")
    target = load_target("intel-cpu")
    exported, _ = export_model(model, target.export)
    graph, _ = optimize_graph(exported)
    graph.save(folder / "ours.onnx")
    engine = compile_engine(folder / "ours.onnx", target, "fp32", folder / "engine")
    height, width = model.config.image_size
    batch = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    with open_engine(engine) as ours:
        sessions: dict[str, Any] = {"ours": ours}
        threads = int(ours.settings["threads"])
        for exporter in EXPORTERS:
            path = export_timm(module, (height, width), exporter, folder / f"{exporter}.onnx")
            infer = compile_openvino(path, threads)
            sessions[f"timm {exporter}"] = PeerSession(infer, model.preprocess, batch, threads)
        expected = ours.run(batch)
        for peer, session in sessions.items():
            error = float(np.abs(session.run(batch) - expected).max() / np.abs(expected).max())
            if error > 1e-4:
                raise SystemExit(f"{name}: {peer} answers differently from ours, relative error {error:.2g}")
        comparison = measure_latency(sessions, batch, seconds=seconds, runs=100, rounds=rounds)
    return _summarize(name, comparison)


def _summarize(name: str, comparison: LatencyComparison) -> dict[str, Any]:
    peers = [peer for peer in comparison.latencies if peer != "ours"]
    fastest = min(peers, key=lambda peer: comparison.latencies[peer].p50_ms)
    ratio = comparison.ratio("ours", fastest)
    return {
        "model": name,
        "peer": fastest,
        "ratio": schema.to_data(ratio),
        "ratios": {peer: schema.to_data(comparison.ratio("ours", peer)) for peer in peers},
        "bar": BAR,
        "met": ratio.value <= BAR,
        "latencies": {key: schema.to_data(value) for key, value in comparison.latencies.items()},
    }


def main() -> int:
    """Exit status 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="timed seconds per engine")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--models", nargs="*", default=MODELS)
    options = parser.parse_args()
    machine = describe_machine()
    rows = []
    print(f"{'model':<30} {'ours':>8} {'timm':>8}  {'ratio':>6}  {'95 %':>11}   bar")
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            row = bench_model(name, options.seconds, options.rounds, Path(folder))
        rows.append(row)
        ours, peer = (row["latencies"][key]["p50_ms"] for key in ("ours", row["peer"]))
        ratio = row["ratio"]
        print(
            f"{name:<30} {ours:8.2f} {peer:8.2f}  {ratio['value']:6.3f}  {ratio['low']:.3f}–{ratio['high']:.3f}   "
            f"≤ {BAR} {'met' if row['met'] else 'MISSED'}  ({row['peer']})",
            flush=True,
        )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": schema.to_data(machine), "rows": rows}, indent=1) + "\n")
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
