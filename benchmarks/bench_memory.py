"""Peak memory of a build, beside the size of the checkpoint that it starts from.

A random checkpoint is written as a timm folder, and ``build_model`` runs on it in a process of its own with an empty
cache. The peak is that process's greatest resident set (``ru_maxrss``), mapped files included: what a machine without
swap has to have. A thread reads the resident set beside the stage that is under way, so that the peak has a name.

    python -m benchmarks.bench_memory [--models vit_large_patch16_224 …] [--precisions fp32 int8]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from benchmarks.memory_table import render_table
from edgevit import schema
from edgevit.devices.local import describe_machine

MODELS = ("vit_large_patch16_224", "swin_large_patch4_window7_224")
PRECISIONS = ("fp32", "int8")
BAR = 3.0
"""Peak of a float32 build over the checkpoint's size."""
RESULTS = Path(__file__).parent / "results"
_INTERVAL_SECONDS = 0.05
_PAGE = os.sysconf("SC_PAGE_SIZE")


def write_checkpoint(name: str, folder: Path) -> int:
    """A timm folder with random weights; returns the bytes of the weight file."""
    import torch
    from safetensors.torch import save_file

    from edgevit.checkpoints import timm
    from edgevit.checkpoints.architectures import find_architecture
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


def build(checkpoint: Path, precision: str, folder: Path) -> dict[str, Any]:
    """What the child process does: build, and say how much memory that took."""
    before = _resident_bytes()
    stages: dict[str, int] = {}
    now = ["start"]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(_INTERVAL_SECONDS):
            stages[now[0]] = max(stages.get(now[0], 0), _resident_bytes())

    def progress(stage: str, done: int, total: int) -> None:
        now[0] = stage

    from edgevit.build import build_model
    from edgevit.cache import StageCache
    from edgevit.recipe import Recipe
    from edgevit.target import load_target

    # Few timed calls: how many there are does not change the peak.
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    result = build_model(
        checkpoint,
        load_target("intel-cpu"),
        out=folder / "bundle",
        recipe=dataclasses.replace(Recipe(), precision=precision, latency_runs=10, latency_seconds=1.0),
        calibration="random" if precision == "int8" else None,
        progress=progress,
        cache=StageCache(folder / "cache"),
    )
    stop.set()
    thread.join()
    assert result.bundle is not None
    return {
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "start_bytes": before,
        "stages": stages,
        "verdict": result.report.verdict.sentence,
        "seconds": result.report.stages,
    }


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def measure(name: str, precisions: list[str], folder: Path) -> list[dict[str, Any]]:
    """One row a precision, each in its own process with its own cache."""
    size = write_checkpoint(name, folder / name)
    rows = []
    for precision in precisions:
        place = folder / f"{name}-{precision}"
        place.mkdir()
        args = [sys.executable, "-m", "benchmarks.bench_memory", "--child", str(folder / name), precision, str(place)]
        done = subprocess.run(args, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        ratio = found["peak_bytes"] / size
        bar = BAR if precision == "fp32" else None
        rows.append({
            "model": name, "precision": precision, "checkpoint_bytes": size, **found, "ratio": ratio, "bar": bar,
            "met": bar is None or ratio <= bar,
        })  # fmt: skip
        print(f"{name} {precision}: {found['peak_bytes'] / 2**20:,.0f} MiB, {ratio:.2f} × the checkpoint", flush=True)
    return rows


def main() -> int:
    """Measure, write ``results/memory.json`` and ``.md``, and exit with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--child", nargs=3, metavar=("CHECKPOINT", "PRECISION", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(build(Path(args.child[0]), args.child[1], Path(args.child[2]))))
        return 0
    rows: list[dict[str, Any]] = []
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(name, args.precisions, Path(folder))
    result = {"machine": schema.to_data(describe_machine()), "rows": rows}
    args.results.mkdir(exist_ok=True)
    (args.results / "memory.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.results / "memory.md").write_text(render_table(result))
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
