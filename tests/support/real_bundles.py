"""INT8 bundles of the real checkpoints in shared/assets, made once on a machine and kept between runs."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from importlib.metadata import version
from pathlib import Path

from edgevit.build.build import build_model
from edgevit.core.quantization import Quantization
from edgevit.core.recipe import Recipe
from edgevit.core.target import load_target
from edgevit.runtime.manifest import SCHEMA_VERSION
from tests.support.quantized import without_ranking

ASSETS = {"deit_tiny_imagenet": "imagenet", "swin_imagenette": "imagenette"}
"""The checkpoints, with the folder of their photos."""

_KEPT = Path(__file__).parents[2] / "build" / "bundles"
_QUICK = Quantization(
    images=8, observer="minmax", float_share=0.0, smooth=False, bias_correction=False, rounding="nearest"
)
_RECIPE = Recipe(
    precision="int8",
    quantization=_QUICK,
    latency_runs=2,
    latency_seconds=0.05,
    tune_settings=False,
    choice_images=8,
    parity_images=4,
)
_FORM = 1  # raise it where these bundles have to be made anew


def make_real_bundle(assets: Path, name: str, target: str = "intel-cpu") -> Path:
    """The bundle's folder, which other tests share: read only.

    What is calibrated with so few images is not as right as it could be. Tests that compare runtimes need no more.
    """
    key = repr((name, target, _RECIPE, SCHEMA_VERSION, _FORM, version(_package(target))))
    out = _KEPT / f"{name}-{target}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    _KEPT.mkdir(parents=True, exist_ok=True)
    with (_KEPT / f".{out.name}.lock").open("w") as lock:  # processes of a test run wait for one another
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (out / "manifest.json").is_file():
            partial = out.with_name(f"{out.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            calibration = _write_few(assets / ASSETS[name] / "calibration.csv", out.with_suffix(".csv"))
            with without_ranking():  # with this recipe it decides nothing, and takes half of the time
                build_model(assets / name, load_target(target), out=partial, recipe=_RECIPE, calibration=calibration)
            partial.rename(out)
    return out


def _write_few(photos: Path, out: Path) -> Path:
    """A list of every so many of the photos: of as many classes as there are."""
    header, *rows = photos.read_text().splitlines()
    few = rows[:: max(1, len(rows) // _QUICK.images)][: _QUICK.images]
    out.write_text("\n".join([header, *(f"{photos.parent}/{row}" for row in few)]) + "\n")
    return out


def _package(target: str) -> str:
    return load_target(target).backend
