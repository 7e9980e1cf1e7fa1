"""The smallest model of each family through the whole line: INT8 for ``intel-cpu``, float16 for ``rtx-30``.

The sizes are real and the weights are random: what is shown is that a family's graph survives every stage. An INT8
build is sane where each variant passes parity (float engines with the module, the INT8 engine with its own graph in
ONNX Runtime), where INT8 keeps 20 dB on held-out photos, of features at every level, and of embeddings a mean cosine of
0.99; and where the verdict chose an engine within its budget. Agreement is shown and not judged: the answers of random
weights lie so close together that the first place says nothing. Of the float16 build every block's attention is to be
one kernel; blocks that are not are listed.

A row is stored as soon as it is there; rows that the results have are not run again unless they are named.

    python -m benchmarks.bench_families [--models vit_tiny …] [--parts int8 fp16]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.family_models import MODELS, PUBLISHERS, FamilyModel
from benchmarks.family_table import render_table
from benchmarks.int8_models import find_assets
from edgevit.build.build import build_model
from edgevit.build.conclude import BuildResult
from edgevit.core import schema
from edgevit.core.cache import StageCache
from edgevit.core.progress import ignore_progress
from edgevit.core.quantization import Quantization
from edgevit.core.recipe import Recipe
from edgevit.core.report.report import Report, Variant
from edgevit.core.target import Budget, load_target
from edgevit.measure.machine.local import describe_machine
from edgevit.measure.reference import generate_images
from edgevit.pixels.images import ImageSet
from tests.support.reference import randomise

PARTS = ("fp16", "int8")
CALIBRATION_IMAGES, VALIDATION_IMAGES = 32, 32
LEAST_DB = 20.0
BUDGET = Budget(min_agreement=0.0, min_recall=0.0)  # the first place of random weights says nothing
RESULTS = Path(__file__).parent / "results" / "families.json"
_RECIPE = Recipe(parity_images=4, latency_runs=10, latency_seconds=1.0, tune_settings=False)


def copy_images(folder: Path, use: str, count: int, size: tuple[int, int]) -> Path:
    """A sample of the shared photos without their labels; where they are absent, smooth noise."""
    place = folder / use
    place.mkdir()
    assets = find_assets()
    if assets is None:
        from PIL import Image

        for index, pixels in enumerate(generate_images(count, *size, seed=len(use))):
            Image.fromarray(pixels).save(place / f"{index:04}.png")
        return place
    sample = ImageSet.read(assets / "imagenet" / f"{use}.csv").subset(count, seed=0)
    for file in sample.files:
        shutil.copy(sample.root / file, place / Path(file).name)
    return place


def run_part(model: FamilyModel, part: str, folder: Path) -> dict[str, Any]:
    """What the child process does: one build, and what it came to."""
    build, save = PUBLISHERS[model.publisher]
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    source = save(randomise(build(model)), checkpoint)
    recipe = dataclasses.replace(_RECIPE, task=model.task, precision="fp16" if part == "fp16" else "auto")
    recipe = dataclasses.replace(recipe, quantization=Quantization(images=CALIBRATION_IMAGES))
    images: dict[str, Path] = {}
    if part == "int8":
        counts = {"calibration": CALIBRATION_IMAGES, "validation": VALIDATION_IMAGES}
        images = {use: copy_images(folder, use, count, (256, 256)) for use, count in counts.items()}
    start = time.perf_counter()
    result = build_model(
        source,
        load_target("rtx-30" if part == "fp16" else "intel-cpu"),
        out=folder / "bundle",
        recipe=recipe,
        budget=BUDGET,
        progress=_Clock(start) if sys.stderr.isatty() else ignore_progress,
        cache=StageCache(folder / "cache"),
        **images,  # type: ignore[arg-type]
    )
    described = describe_fp16(result.report) if part == "fp16" else describe_int8(result)
    return {"seconds": round(time.perf_counter() - start, 1), **described}


class _Clock:
    """Tells every stage once, with the seconds since the start."""

    def __init__(self, start: float) -> None:
        self._start, self._stage = start, ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self._stage = stage
            print(f"  {time.perf_counter() - self._start:7.1f} s {stage}", file=sys.stderr, flush=True)


def describe_fp16(report: Report) -> dict[str, Any]:
    """Layers, attention, and what became of blocks whose attention is not one kernel."""
    record = report.fusion.get("fp16")
    if record is None:
        return {"verdict": report.verdict.sentence, "warnings": list(report.verdict.warnings)}
    return {
        "compiler": record.compiler,
        "device": record.device,
        "layers": record.layers,
        "fused": len(record.attention),
        "blocks": len(record.attention) + len(record.unfused_attention),
        "unfused": list(record.unfused_attention),
        "notes": list(record.notes),
        "leftovers": {text: len(sites) for text, sites in record.leftovers().items()},
    }


def describe_int8(result: BuildResult) -> dict[str, Any]:
    """The verdict, every variant, and what became of the sites."""
    report = result.report
    record = report.quantization["int8"]
    assert record is not None
    counts = {kind: sum(site.precision == kind for site in record.sites) for kind in ("int8", "float")}
    return {
        "chosen": report.verdict.chosen,
        "passed": report.verdict.passed,
        "verdict": report.verdict.sentence,
        "variants": [describe_variant(variant) for variant in report.variants],
        "sites": counts,
        "float_sites": [site.name for site in record.sites if site.precision == "float"],
        "worst": {site.name: site.sqnr_db for site in record.worst[:5]},
        "groups": dict(record.groups),
        "notes": list(record.notes),
        "stages": dict(report.stages),
    }


def describe_variant(variant: Variant) -> dict[str, Any]:
    """Figures on held-out photos."""
    accuracy, parity = variant.accuracy, variant.parity
    assert accuracy is not None
    worst = accuracy.worst_level
    return {
        "name": variant.name,
        "status": variant.status,
        "parity": None if parity is None else {"passed": parity.passed, "reason": parity.reason},
        "agreement_percent": accuracy.agreement_percent,
        "sqnr_db": accuracy.sqnr_db,
        "cosine_mean": accuracy.cosine_mean,
        "worst_level_db": None if worst is None else worst[1],
        "ratio": None if variant.ratio is None else schema.to_data(variant.ratio),
        "size_bytes": variant.size_bytes,
    }


def judge_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Why a row is not as it is to be; empty where it is, as far as it was run."""
    faults = []
    if (fp16 := row.get("fp16")) is not None:
        if "layers" not in fp16:
            faults.append("fp16 was not compiled")
        elif fp16["fused"] < fp16["blocks"]:
            faults.append(f"attention fused in {fp16['fused']} of {fp16['blocks']} blocks")
    if (int8 := row.get("int8")) is not None:
        faults += judge_int8(int8)
    faults += [f"{part}: {row[part]['error']}" for part in PARTS if "error" in row.get(part, {})]
    return tuple(faults)


def judge_int8(int8: Mapping[str, Any]) -> list[str]:
    """What is not sane in an INT8 build."""
    if "error" in int8:
        return []
    faults = [f"{v['name']}: parity failed" for v in int8["variants"] if v["parity"] and not v["parity"]["passed"]]
    found = next((v for v in int8["variants"] if v["name"] == "int8"), None)
    if found is None:
        return [*faults, "there is no int8"]
    noise = found["worst_level_db"] if found["worst_level_db"] is not None else found["sqnr_db"]
    if noise is not None and noise < LEAST_DB:
        faults.append(f"int8 keeps {noise:.1f} dB of {LEAST_DB:g}")
    if found["cosine_mean"] is not None and found["cosine_mean"] < BUDGET.min_cosine:
        faults.append(f"the mean cosine is {found['cosine_mean']:.4f}")
    if not int8["passed"]:
        faults.append("the verdict has not passed")
    return faults


def _run_child(model: FamilyModel, part: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
        arguments = [sys.executable, "-m", "benchmarks.bench_families", "--child", str(model), part, folder]
        done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"error": f"the build ended with {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _store(rows: Sequence[dict[str, Any]]) -> None:
    order = [str(model) for model in MODELS]
    document = {
        "machine": schema.to_data(describe_machine()),
        "rows": sorted(rows, key=lambda row: order.index(row["model"])),
    }
    RESULTS.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(render_table(document, judge_row), encoding="utf-8")


def main() -> int:
    """Run what is missing, write ``results/families.json`` and ``.md``; 1 where a row is not as it is to be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[], metavar="PART", help="parts of names; these are run again")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--child", nargs=3, metavar=("MODEL", "PART", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        model = next(model for model in MODELS if str(model) == args.child[0])
        print(json.dumps(run_part(model, args.child[1], Path(args.child[2]))))
        return 0
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.is_file() else []
    rows: dict[str, dict[str, Any]] = {row["model"]: row for row in stored}
    for part in args.parts:
        for model in MODELS:
            row = rows.setdefault(str(model), {"model": str(model), "family": model.family})
            named = any(name in str(model) for name in args.models)
            if not named and (args.models or part in row):
                continue
            row[part] = _run_child(model, part)
            print(f"{model} {part}, {row[part].get('seconds')} s: {'; '.join(judge_row(row)) or 'sane'}", flush=True)
            _store(list(rows.values()))
    wanted = [row for row in rows.values() if not args.models or any(name in row["model"] for name in args.models)]
    return 1 if any(judge_row(row) for row in wanted) else 0


if __name__ == "__main__":
    raise SystemExit(main())
