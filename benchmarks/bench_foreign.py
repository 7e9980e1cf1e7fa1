"""Engines built from exported ONNX files against those built from the checkpoints that they were exported from.

Real weights, float32, OpenVINO: the shared DeiT-T and Swin, through both of torch's exporters, read back
and built as any file is. All three engines of a model answer the same image in one process, interleaved; then each
answers every validation image, and their top-1 are compared.

    python -m benchmarks.bench_foreign [--seconds 8] [--models deit_tiny_imagenet …]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.int8_models import find_assets
from edgevit.checkpoints import read_checkpoint
from edgevit.core import schema
from edgevit.core.engine import Engine
from edgevit.core.target import load_target
from edgevit.engines.compile import compile_engine
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.measure.latency import measure_latency
from edgevit.measure.machine.local import describe_machine
from edgevit.models.export import export_model
from edgevit.pixels.images import ImageSet
from edgevit.pixels.preprocess import Preprocess
from edgevit.runtime.session import Session, open_engine
from tests.support.foreign_exports import Exporter, export_asset

MODELS = {"deit_tiny_imagenet": "imagenet", "swin_imagenette": "imagenette"}  # and whose images it answers
EXPORTERS: tuple[Exporter, ...] = ("dynamo", "script")
BAR = 1.03
RESULTS = Path(__file__).parent / "results" / "foreign.json"


def build_engine(source: Path, out: Path) -> tuple[Engine, dict[str, int], Preprocess]:
    """An engine of a checkpoint or a file, what its graph holds, and how its images are prepared."""
    model, target = read_checkpoint(source), load_target("intel-cpu")
    graph, _ = optimize_graph(export_model(model, target.export)[0])
    out.mkdir(parents=True)
    graph.save(out / "graph.onnx")
    return compile_engine(out / "graph.onnx", target, "fp32", out), dict(graph.op_counts()), model.preprocess


def compare_answers(sessions: Mapping[str, Session], preprocess: Preprocess, images: ImageSet) -> dict[str, Any]:
    """By exporter: how many images its engine gives the top-1 of the checkpoint's, and the largest relative error."""
    agreed, errors = dict.fromkeys(EXPORTERS, 0), dict.fromkeys(EXPORTERS, 0.0)
    for batch in images.batches(preprocess, 1):
        expected = sessions["checkpoint"].run(batch.pixels)
        for exporter in EXPORTERS:
            found = sessions[exporter].run(batch.pixels)
            agreed[exporter] += int(found.argmax() == expected.argmax())
            error = float(np.abs(found - expected).max() / np.abs(expected).max())
            errors[exporter] = max(errors[exporter], error)
    return {e: {"agreed": agreed[e], "images": len(images), "relative_error": errors[e]} for e in EXPORTERS}


def bench_model(source: Path, images: ImageSet, seconds: float, rounds: int, folder: Path) -> list[dict[str, Any]]:
    """A row for every exporter."""
    engine, counts, preprocess = build_engine(source, folder / "checkpoint")
    engines, differences = {"checkpoint": engine}, {}
    for exporter in EXPORTERS:
        (folder / exporter).mkdir()
        path = export_asset(source, folder / exporter, exporter)
        engines[exporter], found, prepared = build_engine(path, folder / exporter / "build")
        if prepared != preprocess:
            raise SystemExit(f"{path.name} prepares images in another way: {prepared.describe()}")
        differences[exporter] = {
            op: [counts.get(op, 0), found.get(op, 0)]
            for op in sorted(counts.keys() | found.keys())
            if counts.get(op, 0) != found.get(op, 0)
        }
    batch = next(iter(images.batches(preprocess, 1))).pixels
    sessions = {kind: open_engine(engine) for kind, engine in engines.items()}
    try:
        comparison = measure_latency(sessions, batch, seconds=seconds, runs=100, rounds=rounds)
        answers = compare_answers(sessions, preprocess, images)
    finally:
        for session in sessions.values():
            session.close()
    return [
        {
            "model": source.name,
            "exporter": exporter,
            "ratio": schema.to_data(comparison.ratio(exporter, "checkpoint")),
            "bar": BAR,
            **answers[exporter],
            "operator_differences": differences[exporter],
            "latency": schema.to_data(comparison.latencies[exporter]),
            "checkpoint": schema.to_data(comparison.latencies["checkpoint"]),
        }
        for exporter in EXPORTERS
    ]


def judge_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Which bars a row misses."""
    missed = []
    if row["ratio"]["value"] > row["bar"]:
        missed.append(f"{row['ratio']['value']:.3f} of at most {row['bar']}")
    if row["agreed"] < row["images"]:
        missed.append(f"{row['images'] - row['agreed']} of {row['images']} images get another answer")
    if row["relative_error"] > 1e-4:
        missed.append(f"answers differ by {row['relative_error']:.0e} of the largest")
    if row["operator_differences"]:
        missed.append("other operators: " + ", ".join(row["operator_differences"]))
    return tuple(missed)


def render_table(rows: list[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = [
        "Latency of the engine from the exported file over the one from the checkpoint; float32, batch 1, interleaved.",
        "Agreement of the two engines' top-1 on the validation images, and the largest difference of their logits over",
        "the largest logit of the image.",
        "",
        "| model | exporter | checkpoint p50, ms | file p50, ms | ratio | 95 % | bar | agreement | error | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        ratio = row["ratio"]
        cells = [
            f"`{row['model']}`",
            row["exporter"],
            f"{row['checkpoint']['p50_ms']:.2f}",
            f"{row['latency']['p50_ms']:.2f}",
            f"{ratio['value']:.3f}",
            f"{ratio['low']:.3f}–{ratio['high']:.3f}",
            f"≤ {row['bar']}",
            f"{row['agreed']} of {row['images']}",
            f"{row['relative_error']:.0e}",
            "; ".join(judge_row(row)) or "met",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Exit status 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="timed seconds per engine")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS, metavar="NAME")
    options = parser.parse_args()
    assets = find_assets()
    if assets is None:
        print("nothing to do: the assets are absent, set EDGEVIT_ASSETS")
        return 0
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.is_file() else []
    for name in options.models:
        with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
            images = ImageSet.read(assets / MODELS[name] / "validation.csv")
            fresh = bench_model(assets / name, images, options.seconds, options.rounds, Path(folder))
        rows = [row for row in rows if row["model"] != name] + fresh
    rows.sort(key=lambda row: ([*MODELS].index(row["model"]), EXPORTERS.index(row["exporter"])))
    document = {"machine": schema.to_data(describe_machine()), "rows": rows}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(render_table(rows), encoding="utf-8")
    print(render_table(rows))
    return 1 if any(judge_row(row) for row in rows if row["model"] in options.models) else 0


if __name__ == "__main__":
    sys.exit(main())
