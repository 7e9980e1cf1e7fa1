"""What TensorRT-RTX makes of our graphs: layers and fused attention of every model and precision, without a GPU.

Counts say how many kernels an engine starts and which of them only move numbers; they say nothing of latency or
accuracy on a device. Weights are random, and every site that the placement table allows is quantised: with real weights
the recipe leaves some sites float.

    python -m benchmarks.bench_fusion [--models deit_tiny_patch16_224 …]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from edgevit.checkpoints import read_checkpoint
from edgevit.core import schema
from edgevit.core.quantization import Quantization
from edgevit.core.report.fusion_record import FusionRecord
from edgevit.core.target import ExportForm, Target, load_target
from edgevit.engines.fusion_file import load_fusion
from edgevit.engines.tensorrt.backend import TENSORRT_RTX
from edgevit.graph.graph import Graph
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.measure.reference import generate_images
from edgevit.models.export import export_model
from edgevit.models.model import Model
from edgevit.quantize.placement import PLACEMENTS
from edgevit.quantize.quantize import plan_quantization
from edgevit.quantize.write_quantized import write_quantized
from edgevit.runtime.session import get_runtime
from tests.support.reference import import_timm, randomise, save_timm_folder

MODELS = (
    "deit_tiny_patch16_224",
    "deit_small_patch16_224",
    "vit_base_patch16_224",
    "swin_tiny_patch4_window7_224",
)
ENGINES = (("fp16", "rtx-30"), ("int8", "rtx-30"), ("fp8", "rtx-40"))
LAYER_BARS = {
    ("deit_tiny_patch16_224", "fp16"): 100,
    ("deit_tiny_patch16_224", "int8"): 112,
    ("swin_tiny_patch4_window7_224", "fp16"): 130,
    ("swin_tiny_patch4_window7_224", "int8"): 160,
}
"""Largest number of layers for SM86; attention is to be fused in every block of every engine."""

QUANTIZATION = Quantization(float_share=0.0, rounding="nearest")
RESULTS = Path(__file__).parent / "results" / "fusion.json"


def make_graph(model: Model, precision: str, form: ExportForm) -> Graph:
    """The graph of a precision as a build makes it, every site quantised; two random images calibrate it."""
    form = dataclasses.replace(form, fold_residual_rotation=precision == "int8" and QUANTIZATION.rotate)
    graph = optimize_graph(export_model(model, form)[0])[0]
    pixels = generate_images(2, *model.config.image_size, 0)[:, None]
    if precision in ("int8", "fp8"):
        codes: Literal["int8", "fp8"] = "int8" if precision == "int8" else "fp8"
        base, plan, record = plan_quantization(graph, pixels, QUANTIZATION, "tensorrt_rtx", precision=codes)
        return write_quantized(base, plan, record, PLACEMENTS["tensorrt_rtx"])
    return graph


def count_layers(graph: Graph, precision: str, target: Target, folder: Path) -> tuple[FusionRecord, bytes]:
    """What the compiler fused, and the plan."""
    folder.mkdir(exist_ok=True)
    graph.save(folder / "graph.onnx")
    engine = TENSORRT_RTX.compile(folder / "graph.onnx", target, precision, folder, {})
    record = load_fusion(folder)
    assert record is not None
    return record, engine.path.read_bytes()


def bench_model(name: str, folder: Path, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for every engine."""
    timm = import_timm()
    save_timm_folder(randomise(timm.create_model(name)), folder / "checkpoint")
    model = read_checkpoint(folder / "checkpoint")
    rows = []
    for precision, device in ENGINES:
        target = load_target(device)
        graph = make_graph(model, precision, target.export)
        record, plan = count_layers(graph, precision, target, folder / "first")
        again, twin = count_layers(graph, precision, target, folder / "second")
        rows.append(
            {
                "model": name,
                "precision": precision,
                "layers": record.layers,
                "bar": LAYER_BARS.get((name, precision)),
                "blocks": len(record.attention) + len(record.unfused_attention),
                "identical": plan == twin and record == again,
                "plan_bytes": len(plan),
                "record": schema.to_data(record),
            }
        )
        tell(f"{name} {precision} {record.device}: {record.describe()}")
    return rows


def judge_row(row: dict[str, Any]) -> tuple[str, ...]:
    """Which bars a row misses."""
    fused = len(row["record"].get("attention", {}))
    missed = []
    if row["bar"] is not None and row["layers"] > row["bar"]:
        missed.append(f"{row['layers']} layers of at most {row['bar']}")
    if fused < row["blocks"]:
        missed.append(f"attention fused in {fused} of {row['blocks']} blocks")
    if not row["identical"]:
        missed.append("two builds differ")
    return tuple(missed)


def render_table(rows: list[dict[str, Any]], compiler: str) -> str:
    """As Markdown."""
    lines = [
        f"Compiled by {compiler} without a GPU; kernels counted in the compiler's own list. Nothing was run.",
        "",
        "| model | precision | for | layers | bar | attention fused | products | move numbers | change types | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        record = row["record"]
        attention = record.get("attention", {})
        types = ", ".join(sorted(set(attention.values())))
        cells = [
            f"`{row['model']}`",
            row["precision"],
            record["device"],
            str(row["layers"]),
            f"≤ {row['bar']}" if row["bar"] is not None else "–",
            f"{len(attention)} of {row['blocks']}" + (f" ({types})" if types else ""),
            ", ".join(f"{count} {kind}" for kind, count in record["products"].items()),
            str(len(record.get("moves", ()))),
            str(len(record.get("casts", ()))),
            "; ".join(judge_row(row)) or "met",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS, metavar="NAME")
    wanted = parser.parse_args().models
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.is_file() else []
    for name in wanted:
        with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
            fresh = bench_model(name, Path(folder), lambda text: print(text, file=sys.stderr, flush=True))
        rows = [row for row in rows if row["model"] != name] + fresh
        rows.sort(key=lambda row: MODELS.index(row["model"]))
        compiler = " ".join(next(iter(get_runtime("tensorrt_rtx").read_versions().items())))
        document = {"compiler": compiler, "rows": rows}
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        RESULTS.with_suffix(".md").write_text(render_table(rows, compiler), encoding="utf-8")
    print(render_table(rows, compiler))
    return 1 if any(judge_row(row) for row in rows if row["model"] in wanted) else 0


if __name__ == "__main__":
    sys.exit(main())
