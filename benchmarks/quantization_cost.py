"""Time and peak memory of quantising: ours and NNCF's default, a process each, with the same images.

Both begin behind the export: ours with the optimised graph in the cache, NNCF with timm's ONNX file. The clock runs
from the images' files to the quantised file; the memory is the largest resident set of the whole process.

    python -m benchmarks.quantization_cost ours|nncf CHECKPOINT EXPORT.onnx IMAGES.csv COUNT FOLDER
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from edgevit.core import schema
from edgevit.core.errors import DataError
from edgevit.core.progress import ignore_progress
from edgevit.pixels.images import ImageSet
from edgevit.pixels.preprocess import Preprocess

PREPROCESS_FILE = "preprocess.json"


def measure_cost(
    checkpoint: Path, preprocess: Preprocess, export: Path, images: Path, count: int, folder: Path
) -> dict[str, Any]:
    """Run both in processes of their own.

    Args:
        checkpoint: For ours.
        preprocess: The checkpoint's, for NNCF.
        export: timm's ONNX file of it, for NNCF.
        images: CSV or folder of calibration images.
        count: How many are used.
        folder: For what they write.
    """
    (folder / PREPROCESS_FILE).write_text(json.dumps(schema.to_data(preprocess)), encoding="utf-8")
    paths = (checkpoint, export, images)
    _run("ours", paths, 2, folder)  # leaves export and optimised graph in the cache
    found = {
        "ours": _run("ours", paths, count, folder),
        "NNCF default": _run("nncf", paths, count, folder),
    }
    ours, peer = found["ours"], found["NNCF default"]
    return {
        "images": count,
        "quantisers": found,
        "seconds_ratio": {"value": ours["seconds"] / peer["seconds"]},
        "memory_ratio": {"value": ours["peak_bytes"] / peer["peak_bytes"]},
    }


def _run(what: str, paths: tuple[Path, ...], count: int, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.quantization_cost", what, *map(str, paths), str(count), str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    if done.returncode:
        raise SystemExit(f"the cost of {what} could not be measured:\n{done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Quantise, and print the figures as the last line."""
    what, checkpoint, export, images, count, folder = sys.argv[1:]
    sample = ImageSet.read(images).subset(int(count), seed=0)
    figures = (_quantize_ours if what == "ours" else _quantize_nncf)(
        Path(checkpoint), Path(export), sample, Path(folder)
    )
    print(json.dumps(figures))


def _quantize_ours(checkpoint: Path, export: Path, images: ImageSet, folder: Path) -> dict[str, float]:
    from edgevit.build.prepare_quantized import prepare_quantized
    from edgevit.checkpoints import read_checkpoint
    from edgevit.core.cache import StageCache
    from edgevit.core.memory import collect_new_alone
    from edgevit.core.recipe import load_recipe
    from edgevit.core.target import load_target

    model, target, recipe = read_checkpoint(checkpoint), load_target("intel-cpu"), load_recipe("default")
    before, started = _peak_bytes(), time.perf_counter()
    with collect_new_alone():  # as the command line does
        prepare_quantized("int8", model, target, recipe, images, StageCache(folder / "cache"), ignore_progress)
    return _figures(before, started)


def _quantize_nncf(checkpoint: Path, export: Path, images: ImageSet, folder: Path) -> dict[str, float]:
    """The checkpoint is not read: NNCF's process holds nothing that NNCF does not need."""
    import nncf  # noqa: F401  (importing is not quantising)

    from benchmarks.peer_quantizers import quantize_nncf

    data = json.loads((folder / PREPROCESS_FILE).read_text(encoding="utf-8"))
    preprocess = schema.from_data(Preprocess, data, PREPROCESS_FILE, DataError)
    before, started = _peak_bytes(), time.perf_counter()
    pixels = [batch.pixels for batch in images.batches(preprocess, 1)]
    quantize_nncf(export, folder / "peer.xml", pixels, preprocess)
    return _figures(before, started)


def _figures(before: int, started: float) -> dict[str, float]:
    return {
        "seconds": time.perf_counter() - started,
        "peak_bytes": _peak_bytes(),
        "peak_before_bytes": before,
    }


def _peak_bytes() -> int:
    """Largest resident set of this program; ``ru_maxrss`` would be the parent's where that is larger."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("peak memory is measured only on Linux")


if __name__ == "__main__":
    main()
