"""Files as Optimum's exporter leaves them: everything open, and the model's configuration beside them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.onnx_file.module import ForeignModule
from edgevit.cli import main
from edgevit.core.errors import CheckpointError
from tests.support.foreign_exports import export_as_optimum
from tests.support.reference import relative_error

NAMES = (
    "transformers_vit",
    "transformers_vit_eager",
    "transformers_deit_alone",
    "transformers_swin",
    "transformers_dinov2",
)
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 32, "width": 32}, "resample": 2,
    "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What Optimum leaves, but for the processor's configuration."""
    shutil.copy(export_as_optimum("transformers_vit").path, tmp_path / "model.onnx")
    write(tmp_path / "config.json", {"model_type": "vit", "image_size": 32})
    return tmp_path


def write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_file_as_optimum_writes_it_becomes_the_canonical_model(name: str) -> None:
    file = export_as_optimum(name)
    model = read_checkpoint(file.path, image_size=(32, 32))
    assert not isinstance(model.module, ForeignModule), model.source.notes[0]
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        assert relative_error(model.module(images), file.module(images).logits) <= 1e-5


def test_open_size_is_that_of_the_processor_beside_the_file(folder: Path) -> None:
    write(folder / "config.json", {"model_type": "vit", "image_size": 64})
    write(folder / "preprocessor_config.json", PROCESSOR)
    model = read_checkpoint(folder)
    assert model.image_size == (32, 32)
    assert any("height and width are open in the file: it is built for 32 × 32" in note for note in model.source.notes)


def test_open_size_without_a_processor_is_that_of_the_config(folder: Path) -> None:
    assert read_checkpoint(folder).image_size == (32, 32)
    write(folder / "config.json", {"model_type": "vit", "image_size": "large"})
    with pytest.raises(CheckpointError, match="image_size = 'large'"):
        read_checkpoint(folder)


def test_open_size_that_nothing_states_is_asked_for(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="height and width are open") as caught:
        read_checkpoint(folder)
    assert "--image-size" in caught.value.hint


def test_size_that_the_weights_do_not_take_is_refused_in_one_sentence(folder: Path) -> None:
    shown = CliRunner().invoke(main, ["inspect", str(folder), "--image-size", "64"])
    assert shown.exit_code == 2
    assert "cannot run" in " ".join(shown.output.split())
    assert "3 × 64 × 64" in " ".join(shown.output.split())
    assert "hint:" in shown.output
