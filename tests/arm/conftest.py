"""The aarch64 root, and the bundles that are opened in it."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from edgevit.build.build import build_model
from edgevit.cli.demo_models import MODELS, write_digits
from edgevit.core.quantization import Quantization
from edgevit.core.recipe import Recipe
from edgevit.core.target import Target, load_target
from scripts.make_arm_root import MADE, default_folder

DIGITS, PHOTOS, CALIBRATION = 60, 20, 64
_QUICK: dict[str, Any] = {"latency_runs": 20, "latency_seconds": 0.5, "tune_settings": False}


@pytest.fixture(scope="session")
def root() -> Path:
    """What ``python -m scripts.make_arm_root`` made, in $EDGEVIT_ARM_ROOT or where it makes it by default."""
    folder = Path(os.environ.get("EDGEVIT_ARM_ROOT") or default_folder())
    if not (folder / MADE).is_file():
        pytest.skip("there is no aarch64 root: make it with python -m scripts.make_arm_root")
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """Digits to calibrate on, and held-out ones to ask about."""
    files = write_digits(tmp_path_factory.mktemp("digits"))
    held_out = sorted(files.validation.glob("*/*.png"), key=lambda path: path.name)
    return files.calibration, held_out[:DIGITS]


@pytest.fixture(scope="session")
def openvino_target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """OpenVINO's CPU device of any architecture; those that ship with the package are of x86-64."""
    path = tmp_path_factory.mktemp("targets") / "openvino-cpu.toml"
    lines = ['title = "Any CPU with OpenVINO"', 'backend = "openvino"', 'device = "CPU"', 'build_on = "host"']
    path.write_text("\n".join([*lines, 'precisions = ["fp32", "int8"]']) + "\n")
    return load_target(path)


@pytest.fixture(scope="session")
def demo_bundles(
    digits: tuple[Path, list[Path]], openvino_target: Target, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str, str], Path]:
    """The demonstration's bundle of a model, precision and engine library, built once."""
    targets: Mapping[str, Target] = {"onnxruntime": load_target("cpu"), "openvino": openvino_target}
    folder, built = tmp_path_factory.mktemp("demo"), {}

    def build(model: str, precision: Any, backend: str = "onnxruntime") -> Path:
        name = f"{model}-{precision}-{backend}"
        if name not in built:
            recipe = Recipe(precision=precision, quantization=Quantization(images=100), **_QUICK)
            built[name] = build_model(
                MODELS[model], targets[backend], out=folder / name, recipe=recipe, calibration=digits[0]
            ).bundle
        return built[name]

    return build


@pytest.fixture(scope="session")
def deit(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """DeiT-Tiny's INT8 bundle for ONNX Runtime, calibrated on few photos, and held-out ones to ask about."""
    folder = tmp_path_factory.mktemp("deit")
    calibration = folder / "calibration.csv"
    rows = [f"{path},{label}" for path, label in _pick(assets / "imagenet/calibration.csv", CALIBRATION)]
    calibration.write_text("\n".join(["file,label", *rows]) + "\n")
    recipe = Recipe(precision="int8", **_QUICK)
    result = build_model(
        assets / "deit_tiny_imagenet",
        load_target("cpu"),
        out=folder / "bundle",
        recipe=recipe,
        calibration=calibration,
    )
    assert result.bundle is not None
    return result.bundle, [path for path, _ in _pick(assets / "imagenet/validation.csv", PHOTOS)]


def _pick(table: Path, count: int) -> list[tuple[Path, str]]:
    """Files and labels spread over the whole table."""
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [(table.parent / row["file"], row["label"]) for row in rows[:: len(rows) // count][:count]]
