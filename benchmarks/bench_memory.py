"""Peak memory of a build, beside the size of the checkpoint that it starts from.

A random checkpoint is written as a timm folder, and ``build_model`` runs on it in a process of its own with an empty
cache. The peak is that process's greatest resident set (``ru_maxrss``), mapped files included: what a machine without
swap has to have. A thread reads the resident set beside the stage that is under way, so that the peak has a name.

    python -m benchmarks.bench_memory [--cases vit_large_patch16_224:fp32 …]
    python -m benchmarks.bench_memory --limits 8 4 3 [--cases …]

With ``--limits`` the same builds run in a control group that the kernel holds to so many GiB, from the largest to the
first that is too small (:mod:`benchmarks.memory_limit`; it takes root). INT8 is then calibrated on 32 images.

Rows of cases that are not run stay as they are.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.memory_limit import limit_memory
from benchmarks.memory_table import render_table
from edgevit.core import schema
from edgevit.core.recipe import Choice
from edgevit.measure.machine.local import describe_machine

BARS: dict[str, float | None] = {
    "vit_large_patch16_224:fp32": 3.0,
    "swin_large_patch4_window7_224:fp32": 3.0,
    "vit_large_patch16_224:fp16": 3.0,
    "swin_large_patch4_window7_224:fp16": 3.0,
    # Half a gigabyte of libraries and, in float32, several ways to open the engine at once: no bar in checkpoints.
    "vit_base_patch16_224:fp32": None,
    "vit_base_patch16_224:int8": None,
}
"""Peak over the checkpoint's size, at most, by case: an architecture of timm's and a precision."""
LIMITED = [
    f"{name}:{precision}"
    for name in ("vit_large_patch16_224", "swin_large_patch4_window7_224")
    for precision in ("fp32", "fp16", "int8")
]
"""Cases that are tried under limits."""
FEW_IMAGES = 32
RESULTS = Path(__file__).parent / "results"
_INTERVAL_SECONDS = 0.05


def write_checkpoint(name: str, folder: Path) -> int:
    """A timm folder with random weights; returns the bytes of the weight file."""
    import torch
    from safetensors.torch import save_file

    from edgevit.checkpoints.architectures import find_architecture
    from edgevit.checkpoints.timm import timm
    from edgevit.models import build_module

    config = find_architecture(name).config
    with torch.device("meta"):
        expected = build_module(config).state_dict()
    names = timm.find_names(config, ())
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for ours, value in expected.items():
        noise = torch.randn(value.shape, generator=generator)
        gain = ours.endswith("weight") and value.ndim == 1
        scale = value[0].numel() ** -0.5 if value.ndim > 1 else 0.2
        tensors[names.to_publisher(ours, ["head.fc.weight"])] = noise.mul_(scale).add_(float(gain))
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": name, "num_classes": config.classes}))
    return (folder / "model.safetensors").stat().st_size


def build(checkpoint: Path, precision: Choice, folder: Path, images: int | None = None) -> dict[str, Any]:
    """What the child process does: build, calibrated on so many images, and say how much memory that took."""
    before = _read_resident()["VmRSS"]
    stages: dict[str, int] = {}
    greatest = {"VmRSS": 0}
    now = ["start"]
    stop = threading.Event()

    def watch() -> None:
        nonlocal greatest
        while not stop.wait(_INTERVAL_SECONDS):
            sample = _read_resident()
            stages[now[0]] = max(stages.get(now[0], 0), sample["VmRSS"])
            greatest = max(greatest, sample, key=lambda s: s["VmRSS"])

    def progress(stage: str, done: int, total: int) -> None:
        now[0] = stage

    from edgevit.build.build import build_model
    from edgevit.core.cache import StageCache
    from edgevit.core.recipe import Recipe
    from edgevit.core.target import load_target

    # Few timed calls: how many there are does not change the peak.
    recipe = dataclasses.replace(Recipe(), precision=precision, latency_runs=10, latency_seconds=1.0)
    if images is not None:
        recipe = dataclasses.replace(recipe, quantization=dataclasses.replace(recipe.quantization, images=images))
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    result = build_model(
        checkpoint,
        load_target("intel-cpu"),
        out=folder / "bundle",
        recipe=recipe,
        calibration="random" if precision == "int8" else None,
        progress=progress,
        cache=StageCache(folder / "cache"),
    )
    stop.set()
    thread.join()
    assert result.bundle is not None
    return {
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "peak_mapped_bytes": greatest["RssFile"],
        "start_bytes": before,
        "stages": stages,
        "verdict": result.report.verdict.sentence,
        "seconds": result.report.stages,
    }


def _read_resident() -> dict[str, int]:
    """Bytes in memory: ``VmRSS``, and of these ``RssAnon`` (the process's own) and ``RssFile`` (mapped from files)."""
    lines = [line.split(":") for line in Path("/proc/self/status").read_text().splitlines()]
    return {key: int(value.split()[0]) * 1024 for key, value in lines if key in ("VmRSS", "RssAnon", "RssFile")}


def measure(case: str, folder: Path) -> dict[str, Any]:
    """One row: the case in a process of its own, with its own cache."""
    name, precision = case.split(":")
    size = write_checkpoint(name, folder / "checkpoint")
    args = [sys.executable, "-m", "benchmarks.bench_memory", "--child"]
    args += [str(folder / "checkpoint"), precision, str(folder)]
    done = subprocess.run(args, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    ratio, bar = found["peak_bytes"] / size, BARS.get(case)
    print(f"{name} {precision}: {found['peak_bytes'] / 2**20:,.0f} MiB, {ratio:.2f} × the checkpoint", flush=True)
    met = bar is None or ratio <= bar
    return {
        "model": name, "precision": precision, "checkpoint_bytes": size, **found, "ratio": ratio, "bar": bar, "met": met
    }  # fmt: skip


def measure_limits(case: str, limits: Sequence[float], folder: Path) -> list[dict[str, Any]]:
    """A row for each limit in GiB, from the largest to the first under which the build does not end."""
    name, precision = case.split(":")
    size = write_checkpoint(name, folder / "checkpoint")
    rows = []
    for limit in sorted(limits, reverse=True):
        work = folder / f"{limit:g}"
        work.mkdir()
        args = [sys.executable, "-m", "benchmarks.bench_memory", "--images", str(FEW_IMAGES)]
        args += ["--child", str(folder / "checkpoint"), precision, str(work)]
        with limit_memory(int(limit * 2**30)) as enter:
            done = subprocess.run(args, check=False, stdout=subprocess.PIPE, text=True, preexec_fn=enter)
        row = {"model": name, "precision": precision, "checkpoint_bytes": size, "limit_gib": limit}
        passed = done.returncode == 0
        if passed:
            found = json.loads(done.stdout.splitlines()[-1])
            row |= {key: found[key] for key in ("peak_bytes", "peak_mapped_bytes", "stages", "verdict", "seconds")}
        rows.append({**row, "passed": passed, "status": done.returncode})
        print(f"{name} {precision} in {limit:g} GiB: {'built' if passed else f'exit {done.returncode}'}", flush=True)
        shutil.rmtree(work)
        if not passed:
            break
    return rows


def main() -> int:
    """Measure, write ``results/memory.json`` and ``.md`` after every case, and exit with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = list(dict.fromkeys([*BARS, *LIMITED]))
    parser.add_argument("--cases", nargs="+", choices=cases, metavar="MODEL:PRECISION")
    parser.add_argument(
        "--limits", nargs="+", type=float, metavar="GIB", help="enforced, instead of measuring the peak"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--child", nargs=3, metavar=("CHECKPOINT", "PRECISION", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--images", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(build(Path(args.child[0]), args.child[1], Path(args.child[2]), args.images)))
        return 0
    path = args.results / "memory.json"
    stored = json.loads(path.read_text()) if path.is_file() else {"rows": []}
    rows = {f"{row['model']}:{row['precision']}": row for row in stored["rows"]}
    limited = stored.get("limits", [])
    args.results.mkdir(exist_ok=True)
    for case in args.cases or (LIMITED if args.limits else BARS):
        with tempfile.TemporaryDirectory() as folder:
            if args.limits:
                name, precision = case.split(":")
                limited = [row for row in limited if (row["model"], row["precision"]) != (name, precision)]
                limited += measure_limits(case, args.limits, Path(folder))
            else:
                rows[case] = measure(case, Path(folder))
        result = {
            "machine": schema.to_data(describe_machine()),
            "rows": [rows[case] for case in cases if case in rows],
            "limits": sorted(limited, key=lambda row: LIMITED.index(f"{row['model']}:{row['precision']}")),
        }
        path.write_text(json.dumps(result, indent=1) + "\n")
        path.with_suffix(".md").write_text(render_table(result))
    return 0 if all(row["met"] for row in rows.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
