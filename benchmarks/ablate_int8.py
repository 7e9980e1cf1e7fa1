"""What each of the accuracy methods is worth: INT8 with one of them changed at a time, on real weights.

Every variant is quantised from the same calibration images with no site left float (``float_share = 0``), so that the
choice of float sites hides nothing; the first and the last row are the default recipe without and with that choice.
``intel-cpu`` runs in OpenVINO; ``symmetric`` is the Q/DQ graph for TensorRT, run in ONNX Runtime. Judged on validation
images, which no quantiser has seen.

    python -m benchmarks.ablate_int8 [--models deit_tiny_imagenet swin_imagenette] [--calibration 512]
                                      [--variants NAME …]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.bench_int8 import RESULTS, SYMMETRIC_TARGET, TARGET, say
from benchmarks.int8_accuracy import collect_logits, summarize_accuracy
from benchmarks.int8_models import MODELS, BenchModel, find_assets, load_pair, read_images
from benchmarks.int8_table import show_figure
from benchmarks.peers import compile_openvino
from edgevit.build.prepare_quantized import prepare_quantized
from edgevit.core import schema
from edgevit.core.cache import StageCache
from edgevit.core.progress import ignore_progress
from edgevit.core.recipe import load_recipe
from edgevit.core.target import load_target
from edgevit.graph.graph import Graph
from edgevit.graph.segments import SegmentRunner
from edgevit.measure.machine.local import describe_machine
from edgevit.measure.reference import run_module

# What is changed against the default with no float sites, by the name of the row.
CHANGES: Mapping[str, Mapping[str, Any]] = {
    "default, no float sites": {},
    "without the rotation": {"rotate": False},
    "without the rotation, LayerNorm scale and shift": {"rotate": False, "norm_scale": True},
    "LayerNorm scale and shift": {"norm_scale": True},
    "without the class token's own MLP": {"class_token": False},
    "without centred keys and values": {"center_attention": False},
    "without equal ranges of queries and keys": {"equalize": False},
    "without softmax's row gains": {"row_gain": False},
    "without bias correction": {"bias_correction": False},
    "weights to the nearest": {"rounding": "nearest"},
    "without SmoothQuant behind GELU": {"smooth": False},
    "ranges: smallest and largest": {"observer": "minmax"},
    "ranges: percentile 99.99": {"observer": "percentile"},
    "ranges: least error of the values": {"observer": "mse"},
    "ranges: least error weighted by the loss": {"observer": "loss"},
    "products of attention float": {"products": "float"},
    "probabilities·values float": {"products": "scores"},
    "default": {"float_share": None},
}
SYMMETRIC_CHANGES: Mapping[str, Mapping[str, Any]] = {
    "symmetric, no float sites": {},
    "symmetric, without the centre behind GELU": {"center": False},
    "symmetric, without the rotation": {"rotate": False},
    "symmetric, without SmoothQuant behind GELU": {"smooth": False},
    "symmetric": {"float_share": None},
}


def main() -> int:
    """Write ``results/int8_ablations.json`` and ``.md``; models and variants that are not run stay as they are."""
    options = _parse()
    assets = find_assets()
    if assets is None:
        say("nothing to do: the assets are absent, set EDGEVIT_ASSETS")
        return 0
    file = RESULTS / "int8_ablations.json"
    before = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else {}
    data: dict[str, Any] = {"method": " ".join((__doc__ or "").split("\n\n")[1].split()), "rows": before}
    for bench in MODELS:
        if bench.name not in options.models:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            row = ablate(bench, assets, options, Path(temporary))
        row["machine"] = schema.to_data(describe_machine())
        data["rows"][bench.name] = merge_row(row, before.get(bench.name)) if options.variants else row
        RESULTS.mkdir(exist_ok=True)
        text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
        file.write_text(text, encoding="utf-8")
        file.with_suffix(".md").write_text(render_ablations(data), encoding="utf-8")
    return 0


def ablate(bench: BenchModel, assets: Path, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Accuracy by variant."""
    model, _, _ = load_pair(bench, assets, folder)
    images = read_images(bench, model, assets, "calibration", options.calibration, folder)
    judged = read_images(bench, model, assets, "validation", options.validation, folder)
    reference = collect_logits(run_module(model), judged, model.preprocess)
    recipe = load_recipe("default")
    rows: dict[str, Any] = {"calibration_images": len(images), "variants": {}}
    for target, changes in ((TARGET, CHANGES), (SYMMETRIC_TARGET, SYMMETRIC_CHANGES)):
        for name, change in changes.items():
            if options.variants and name not in options.variants:
                continue
            say(f"{bench.name}: {name}")
            kept = {k: v for k, v in {"float_share": 0.0, **change}.items() if v is not None}
            own = dataclasses.replace(recipe, quantization=dataclasses.replace(recipe.quantization, **kept))
            cache = StageCache(folder / "cache")
            made = prepare_quantized("int8", model, load_target(target), own, images, cache, ignore_progress)
            run = compile_openvino(made.path, 2) if target == TARGET else _run_onnx(made.path)
            figures = summarize_accuracy(collect_logits(run, judged, model.preprocess), reference, judged)
            quantized = sum(site.precision == "int8" for site in made.record.sites)
            rows["variants"][name] = {**figures, "int8_sites": quantized, "sites": len(made.record.sites)}
    return rows


OTHER_MACHINE = " (later, another machine)"


def merge_row(row: dict[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """A row of some variants, completed by those of an earlier run in the table's order.

    Kernels of other instruction sets round otherwise, so variants of another machine stand beside the earlier ones,
    marked, and replace none.

    Raises:
        ValueError: The earlier ones are of another number of images.
    """
    if before is None:
        return row
    counts = [r["calibration_images"] for r in (row, before)]
    if counts[0] != counts[1]:
        raise ValueError(
            f"variants of {counts[0]} and of {counts[1]} images don't belong into one table: run all of them"
        )
    kinds = [(r["machine"]["cpu"], r["machine"].get("isa")) for r in (row, before)]
    own = row["variants"]
    if kinds[0] != kinds[1]:
        own = {name + OTHER_MACHINE: {**figures, "machine": row["machine"]} for name, figures in own.items()}
    names, variants = (*CHANGES, *SYMMETRIC_CHANGES), {**before["variants"], **own}

    def place(name: str) -> int:
        plain = name.removesuffix(OTHER_MACHINE)
        return names.index(plain) if plain in names else len(names)

    return {**before, "variants": {name: variants[name] for name in sorted(variants, key=place)}}


def _run_onnx(path: Path) -> Any:
    runner = SegmentRunner(Graph.load(path))
    return lambda pixels: runner.run(pixels)[0]


def render_ablations(data: Mapping[str, Any]) -> str:
    """The content of ``results/int8_ablations.md``."""
    lines = [
        "# What each INT8 method is worth",
        "",
        f"{data['method']}",
        "",
        "Written by `python -m benchmarks.ablate_int8`.",
    ]
    for model, row in data["rows"].items():
        images = next(iter(row["variants"].values()))["images"]
        lines += [
            "",
            f"## {model}",
            "",
            f"{row['calibration_images']} calibration images, {images:,} validation images; {row['machine']['cpu']}.",
            "",
            "| variant | sites in INT8 | SQNR, dB | agreement, % | top-1 drop, points |",
            "| --- | --- | --- | --- | --- |",
        ]
        for name, figures in row["variants"].items():
            sqnr = show_figure(figures["sqnr_db"], 2)
            agreement, drop = (f"{figures[key]['value']:.2f}" for key in ("agreement_percent", "drop_points"))
            lines.append(f"| {name} | {figures['int8_sites']} of {figures['sites']} | {sqnr} | {agreement} | {drop} |")
    return "\n".join(lines) + "\n"


def _parse() -> argparse.Namespace:
    names = [bench.name for bench in MODELS if bench.real]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=names, choices=names, metavar="MODEL", help=", ".join(names))
    parser.add_argument("--calibration", type=int, default=512)
    variants = [*CHANGES, *SYMMETRIC_CHANGES]
    parser.add_argument(
        "--variants",
        nargs="*",
        choices=variants,
        metavar="NAME",
        help="only these: " + "; ".join(variants).replace("%", "%%"),
    )
    parser.add_argument("--validation", type=int, help="validation images; all by default")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
