"""Bundles of the demonstration models, built once for all tests of the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgevit.cli import main
from edgevit.cli.demo_models import MODELS
from tests.support.digits import write_few

QUICK = (
    "latency_runs = 2\nlatency_seconds = 0.05\ntune_settings = false\nchoice_images = 40\n[quantization]\nimages = 40\n"
)
"""A recipe that measures, chooses and calibrates just long enough to fill the table."""


@dataclass(frozen=True)
class Line:
    """What a build left, and the files that it used."""

    folder: Path
    recipe: Path
    calibration: Path
    validation: Path
    bundle: Path
    document: dict[str, Any]


@pytest.fixture(scope="session")
def line(tmp_path_factory) -> Line:
    """The demonstration ViT for ONNX Runtime, in every precision."""
    folder = tmp_path_factory.mktemp("line")
    recipe = folder / "quick.toml"
    recipe.write_text(QUICK)
    files = write_few(folder / "digits")
    bundle = folder / "vit-cpu"
    arguments = [
        "build",
        str(MODELS["vit"]),
        "--target",
        "cpu",
        "--recipe",
        str(recipe),
        "--out",
        str(bundle),
        "--json",
    ]
    arguments += ["--calibration", str(files.calibration), "--validation", str(files.validation)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return Line(folder, recipe, files.calibration, files.validation, bundle, json.loads(result.stdout))


@pytest.fixture
def run():
    """Run the command line in this process."""
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])
