"""The whole line on real weights and real photos, by the figures in the assets' own READMEs.

transformers' own processor and model give the same counts as timm's for the folders that these tests save.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from edgevit.cli import main
from tests.support.reference import save_deit_as_transformers, save_swin_as_transformers

# There is one variant, so no choice that hundreds of calibration images would have to carry.
QUICK = "latency_runs = 20\nlatency_seconds = 0.5\ntune_settings = false\nchoice_images = 8\n"


PART = 10
"""The default run builds on every tenth photo; `make test-slow` on all, whose figures the assets' READMEs tell."""


def list_photos(assets: Path, data: str, folder: Path, part: int) -> Path:
    """A table of every ``part``-th validation photo, the last of them included."""
    with (assets / data / "validation.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))[part - 1 :: part]
    lines = [f"{assets / data / row['file']},{row['label']}" for row in rows]
    (folder / "validation.csv").write_text("\n".join(["file,label", *lines]) + "\n")
    return folder / "validation.csv"


def build(assets: Path, folder: Path, source: Path, data: str, target: str, part: int = 1) -> dict[str, Any]:
    recipe = folder / "quick.toml"
    recipe.write_text(QUICK)
    arguments = ["build", source, "--target", target, "--precision", "fp32", "--recipe", recipe]
    arguments += ["--calibration", assets / data / "calibration.csv"]
    arguments += ["--validation", list_photos(assets, data, folder, part), "--out", folder / "bundle", "--json"]
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def accuracy(document: dict[str, Any]) -> dict[str, Any]:
    (variant,) = document["report"]["variants"]
    figures: dict[str, Any] = variant["accuracy"]
    return figures


FIGURES = {
    ("imagenet", 1): (600, 512, 588, 600),
    ("imagenette", 1): (1000, 651, 942, 1000),
    ("imagenet", PART): (60, 54, 58, 60),
    ("imagenette", PART): (100, 55, 89, 100),
}
"""Images, top-1, top-5 and agreement with the float model; of the parts as timm counts with its own transforms."""


def assert_figures(document: dict[str, Any], data: str, part: int = 1) -> None:
    figures = accuracy(document)
    assert tuple(figures[name] for name in ("images", "top1", "top5", "agreement")) == FIGURES[data, part]


@pytest.mark.parametrize("part", [PART, pytest.param(1, marks=pytest.mark.slow)], ids=["a_part", "all"])
def test_deit_tiny_for_intel_cpu_reports_its_known_accuracy(assets, tmp_path, part):
    document = build(assets, tmp_path, assets / "deit_tiny_imagenet", "imagenet", "intel-cpu", part)
    assert_figures(document, "imagenet", part)
    assert document["report"]["variants"][0]["latency"]["runs"] >= 20


@pytest.mark.slow  # its figures are those of the portable bundle below; DeiT's are an engine's
def test_swin_for_intel_cpu_reports_its_known_accuracy(assets, tmp_path):
    document = build(assets, tmp_path, assets / "swin_imagenette", "imagenette", "intel-cpu")
    assert_figures(document, "imagenette")
    assert document["manifest"]["labels"][0] == "tench"


@pytest.mark.slow  # that the two layouts give one module is compared in tests/parity
def test_deit_tiny_as_a_transformers_folder_reports_the_same(assets, tmp_path):
    save_deit_as_transformers(assets / "deit_tiny_imagenet", tmp_path / "checkpoint")
    document = build(assets, tmp_path, tmp_path / "checkpoint", "imagenet", "intel-cpu")
    assert document["report"]["source"]["layout"].startswith("transformers folder")
    assert_figures(document, "imagenet")


@pytest.mark.slow  # that the two layouts give one module is compared in tests/parity
def test_swin_as_a_transformers_folder_reports_the_same(assets, tmp_path):
    save_swin_as_transformers(assets / "swin_imagenette", tmp_path / "checkpoint")
    document = build(assets, tmp_path, tmp_path / "checkpoint", "imagenette", "intel-cpu")
    assert_figures(document, "imagenette")


@pytest.mark.parametrize(
    ("name", "data", "part"),
    [
        ("swin_imagenette", "imagenette", PART),
        pytest.param("swin_imagenette", "imagenette", 1, marks=pytest.mark.slow),
        pytest.param("deit_tiny_imagenet", "imagenet", 1, marks=pytest.mark.slow),
    ],
)
def test_jetson_build_ends_in_a_portable_bundle_with_full_agreement(assets, tmp_path, name, data, part):
    document = build(assets, tmp_path, assets / name, data, "jetson", part)
    assert_figures(document, data, part)
    assert document["manifest"]["target"]["name"] == "jetson-orin-nano"
    assert "engine" not in document["manifest"]
    if data == "imagenette":
        assert document["manifest"]["labels"][0] == "tench"
    path = tmp_path / "bundle" / "model.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    with np.load(tmp_path / "bundle" / "parity.npz") as stored:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for pixels, logits in zip(stored["pixels"], stored["logits"], strict=True):
            actual = session.run(None, {"image": pixels[None]})[0][0]
            assert np.abs(actual - logits).max() <= 1e-4 * np.abs(logits).max()
            assert actual.argmax() == logits.argmax()
