"""INT8 embeddings against the float model's, on real weights and photos: what a build with ``--task embed`` judges.

Built as ``edgevit build --task embed --precision int8`` does for ``intel-cpu``, and judged on validation images that no
choice has seen. Accuracy alone: the machine need not be idle. :mod:`edgevit.measure.embeddings` says what recall and
kNN top-1 are among.

    python -m benchmarks.bench_embed [--models deit_tiny_imagenet …] [--calibration 512]
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

from benchmarks.int8_models import MODELS, BenchModel, find_assets
from edgevit.build.build import build_model
from edgevit.core import schema
from edgevit.core.cache import StageCache
from edgevit.core.errors import BundleError
from edgevit.core.recipe import load_recipe
from edgevit.core.report.report import Accuracy
from edgevit.core.target import Budget, load_target
from edgevit.core.task import Task
from edgevit.measure.machine.local import describe_machine

TARGET = "intel-cpu"
NAMES = tuple(bench.name for bench in MODELS if bench.real)
RESULTS = Path(__file__).parent / "results" / "embed.json"


def bench_model(bench: BenchModel, assets: Path, calibration: int, folder: Path) -> dict[str, Any]:
    """One row: the engine's figures, and what the build says of them."""
    recipe = load_recipe("default")
    recipe = dataclasses.replace(
        recipe,
        task=Task("embed"),
        precision="int8",
        quantization=dataclasses.replace(recipe.quantization, images=calibration),
        # What is timed is not shown.
        latency_runs=2,
        latency_seconds=0.01,
        tune_settings=False,
    )
    report = build_model(
        assets / bench.name,
        load_target(TARGET),
        out=folder / "bundle",
        recipe=recipe,
        calibration=assets / bench.images / "calibration.csv",
        validation=assets / bench.images / "validation.csv",
        cache=StageCache(folder / "cache"),
        progress=lambda stage, done, total: print(f"{bench.name}: {stage} {done}/{total}", file=sys.stderr),
    ).report
    (variant,) = report.variants
    assert variant.accuracy is not None
    sites = report.quantization["int8"].sites
    return {
        "model": bench.name,
        "machine": schema.to_data(describe_machine()),
        "calibration_images": report.quantization["int8"].images,
        "sites": len(sites),
        "int8_sites": sum(site.precision == "int8" for site in sites),
        "accuracy": schema.to_data(variant.accuracy),
        "verdict": report.verdict.sentence,
    }


def judge_row(row: Mapping[str, Any], budget: Budget | None = None) -> tuple[str, ...]:
    """Which limits of a build's own budget a row misses."""
    budget, found = budget or Budget(), schema.from_data(Accuracy, row["accuracy"], row["model"], BundleError)
    missed = []
    if found.cosine_mean is None or found.cosine_mean < budget.min_cosine:
        missed.append(f"mean cosine below {budget.min_cosine}")
    if found.drop_points is None or found.drop_points > budget.max_drop_points:
        missed.append(f"kNN top-1 drops by more than {budget.max_drop_points} points")
    return tuple(missed)


def render_table(rows: list[dict[str, Any]]) -> str:
    """The content of ``results/embed.md``."""
    titles: tuple[str, ...] = (
        "model",
        "calibration",
        "judged",
        "sites in INT8",
        "mean cosine",
        "least",
        "SQNR, dB",
        "recall@1, %",
    )
    titles += ("recall@10, %", "kNN top-1, %", "float, %", "")
    lines = [
        "# INT8 embeddings against the float model's",
        "",
        " ".join((__doc__ or "").split("\n\n")[1].replace("``", "`").replace(":mod:", "").split()),
        "",
        f"| {' | '.join(titles)} |",
        f"|{' --- |' * len(titles)}",
    ]
    for row in rows:
        found = schema.from_data(Accuracy, row["accuracy"], row["model"], BundleError)
        percent = [
            "–" if count is None else f"{100 * count / found.images:.2f}"
            for count in (found.agreement, _times(found.recall10, found.images), found.top1, found.reference_top1)
        ]
        decibels = "–" if found.sqnr_db is None else f"{found.sqnr_db:.1f}"
        cells = [
            f"`{row['model']}`",
            str(row["calibration_images"]),
            f"{found.images:,}",
            f"{row['int8_sites']} of {row['sites']}",
            f"{found.cosine_mean:.4f}",
            f"{found.cosine_min:.4f}",
            decibels,
            *percent,
            "; ".join(judge_row(row)) or "within budget",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Written by `python -m benchmarks.bench_embed`."]
    lines += [f"`{row['model']}` ran on {row['machine']['cpu']}." for row in rows]
    return "\n".join(lines) + "\n"


def _times(share: float | None, images: int) -> float | None:
    return None if share is None else share * images


def main() -> int:
    """Exit status 1 where a row is out of budget; rows of models that are not run stay as they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(NAMES), choices=NAMES, metavar="NAME")
    parser.add_argument("--calibration", type=int, default=512, help="images to fit INT8 on")
    options = parser.parse_args()
    assets = find_assets()
    if assets is None:
        print("nothing to do: the assets are absent, set EDGEVIT_ASSETS")
        return 0
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.is_file() else []
    for bench in MODELS:
        if bench.name not in options.models:
            continue
        with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
            fresh = bench_model(bench, assets, options.calibration, Path(folder))
        rows = [row for row in rows if row["model"] != bench.name] + [fresh]
        rows.sort(key=lambda row: NAMES.index(row["model"]))
        RESULTS.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")
        RESULTS.with_suffix(".md").write_text(render_table(rows), encoding="utf-8")
    print(render_table(rows))
    return 1 if any(judge_row(row) for row in rows if row["model"] in options.models) else 0


if __name__ == "__main__":
    sys.exit(main())
