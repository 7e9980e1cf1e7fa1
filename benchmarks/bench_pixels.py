"""Preprocessing in C++ against Pillow's resize and our Python: one thread, taken in turns in one process.

Each image is resized to a short side of 248 and cropped to 224 × 224, as DeiT's is. Pillow only resizes, to all of the
248 rows and columns, and is not asked to crop or to copy its pixels. Python is ``Preprocess.fit``, which C++ must equal
before anything is timed. ``photos`` are real ones, of so many sizes that C++ computes its weights anew for each; the
others are one of them, enlarged to frames of a camera. A round is every image once, and its figure is the sum of their
times, which are the thread's own on the processor: what else the machine does in between does not count.

    python -m benchmarks.bench_pixels [--rounds 15] [--photos 40]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.int8_models import find_assets
from edgevit.core import schema
from edgevit.measure.intervals import ratio_of_medians
from edgevit.measure.latency import without_garbage_collection
from edgevit.measure.machine.local import describe_machine
from edgevit.pixels.preprocess import Interpolation, Preprocess
from tests.support.cpp_build import build_cpp
from tests.support.cpp_pixels import ONLY_PIXELS, CppPixels, CppPreprocess, pack_frame

BAR = 0.7
"""C++ over Pillow's resize, of the kernels that this processor's library chooses."""

FILTERS: tuple[Interpolation, ...] = ("bilinear", "bicubic", "lanczos")
FRAMES = ((640, 480), (1920, 1080), (4000, 3000), (1080, 2400))
CENTER = Preprocess(224, 224, "shortest", 248, 248, "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
RESULTS = Path(__file__).parent / "results" / "pixels.json"


def bench_images(
    pixels: CppPixels, name: str, images: Sequence[Image.Image], interpolation: Interpolation, rounds: int
) -> list[dict[str, Any]]:
    """A row for each of this processor's kernels, the chosen ones first.

    Raises:
        AssertionError: C++ gives other pixels than Python.
    """
    preprocess = dataclasses.replace(CENTER, interpolation=interpolation)
    kernel = Image.Resampling[interpolation.upper()]
    ways: dict[str, Callable[[int], Any]] = {
        "pillow": lambda i: images[i].resize(sizes[i], kernel),
        "python": lambda i: preprocess.fit(images[i]),
    }
    sizes = [preprocess.resized_size(image.height, image.width)[::-1] for image in images]
    frames = [pack_frame(np.array(image), "rgb") for image in images]
    calls = [frame.in_memory() for frame in frames]
    out = np.empty((preprocess.height, preprocess.width, 3), np.uint8)
    kernels = pixels.list_kernels()[::-1]

    def call_cpp(opened: CppPreprocess) -> Callable[[int], str]:
        return lambda i: opened.call(calls[i], out)

    for one in kernels:
        opened = pixels.open(preprocess, one)
        assert opened is not None
        for image, frame in zip(images, frames, strict=True):
            assert np.array_equal(opened.apply(frame)[1], preprocess.fit(image)), (one, image.size)
        ways[one] = call_cpp(opened)
    spent = time_rounds(ways, len(images), rounds)
    return [
        {
            "images": name,
            "filter": interpolation,
            "kernels": one,
            "chosen": one == kernels[0],
            "count": len(images),
            "rounds": rounds,
            "ms": {way: 1e3 * float(np.median(spent[way])) / len(images) for way in (one, "pillow", "python")},
            "ratio": {
                peer: dict(zip(("value", "low", "high"), ratio_of_medians(spent[one], spent[peer]), strict=True))
                for peer in ("pillow", "python")
            },
        }
        for one in kernels
    ]


def time_rounds(ways: Mapping[str, Callable[[int], Any]], count: int, rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each round by way, after one that is not timed; the ways take turns, A B, B A."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways.items())
    with without_garbage_collection():
        for turn in range(rounds + 1):
            found = dict.fromkeys(ways, 0.0)
            for i in range(count):
                for name, way in order:
                    start = time.thread_time()
                    way(i)
                    found[name] += time.thread_time() - start
                order.reverse()
            for name, seconds in found.items():
                if turn:
                    spent[name].append(seconds)
    return spent


def list_images(assets: Path, photos: int) -> dict[str, list[Image.Image]]:
    """Photos of many sizes, and frames of one size each."""
    paths = sorted((assets / "imagenet" / "validation").iterdir())
    found = {"photos": [Image.open(path).convert("RGB") for path in paths[:: len(paths) // photos][:photos]]}
    largest = max(found["photos"], key=lambda image: image.width * image.height)
    return found | {f"{width} × {height}": [largest.resize((width, height))] * 3 for width, height in FRAMES}


def list_missed(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the bar is missed by the estimate, a sentence each."""
    return [
        f"{row['images']}, {row['filter']}: {row['ratio']['pillow']['value']:.3f} of Pillow's time"
        for row in rows
        if row["chosen"] and row["ratio"]["pillow"]["value"] > BAR
    ]


def render_table(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> str:
    """The content of ``results/pixels.md``."""
    about = " ".join((__doc__ or "").split("\n\n    python")[0].split("\n\n", 1)[1].replace("``", "`").split())
    titles = ("images", "filter", "kernels", "C++, ms", "Pillow, ms", "Python, ms", "C++ / Pillow", "C++ / Python")
    lines = ["# Preprocessing in C++", "", about, "", f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    for row in rows:
        cells = [row["images"], row["filter"], row["kernels"] + (" (chosen)" if row["chosen"] else "")]
        cells += [f"{row['ms'][way]:.3f}" for way in (row["kernels"], "pillow", "python")]
        for peer in ("pillow", "python"):
            ratio = row["ratio"][peer]
            cells.append(f"{ratio['value']:.3f} ({ratio['low']:.3f}–{ratio['high']:.3f})")
        lines.append(f"| {' | '.join(cells)} |")
    missed = list_missed(rows) or [
        f"The bar, {BAR} of Pillow's time by the kernels that are chosen, is met everywhere."
    ]
    packages = machine["packages"]
    lines += [
        "",
        *missed,
        "",
        f"{machine['cpu']}, Pillow {packages['pillow']}. By `python -m benchmarks.bench_pixels`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Exit status 1 where the bar is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--photos", type=int, default=40)
    options = parser.parse_args()
    assets = find_assets()
    if assets is None:
        print("nothing to do: the assets are absent, set EDGEVIT_ASSETS")
        return 0
    pixels = CppPixels(build_cpp(["edgevit_pixels_test"], ONLY_PIXELS))
    rows = []
    for name, images in list_images(assets, options.photos).items():
        for interpolation in FILTERS:
            rows += bench_images(pixels, name, images, interpolation, options.rounds)
            print(f"{name}, {interpolation}: done", file=sys.stderr)
    machine = schema.to_data(describe_machine())
    RESULTS.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(render_table(rows, machine), encoding="utf-8")
    print(render_table(rows, machine))
    return 1 if list_missed(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
