"""A bundle of a whole model over images with labels of its task: evaluation, and what the command prints."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgevit.build.pack import pack_bundle
from edgevit.cli.eval import _show
from edgevit.cli.output import Output
from edgevit.core.answer import Answer
from edgevit.core.engine import TensorSpec
from edgevit.core.errors import DataError
from edgevit.core.schema import to_data
from edgevit.measure.evaluate import Evaluation, evaluate_bundle
from edgevit.pixels.preprocess import Preprocess
from edgevit.runtime.canary import CanaryCheck
from edgevit.runtime.manifest import load_manifest
from tests.support.tiny_bundle import make_manifest

LABELS = ("sky", "sea")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two images, whose left half is sky; of the second, half of that is not labelled."""
    for name in ("images", "maps"):
        (tmp_path / name).mkdir()
    for i in range(2):
        Image.new("RGB", (16, 16), (i, i, i)).save(tmp_path / "images" / f"{i}.png")
        values = np.repeat(np.array([[0, 1]], np.uint8), 16, axis=0).repeat(8, axis=1)
        values[: 8 * i, :8] = 255
        Image.fromarray(values).save(tmp_path / "maps" / f"{i}.png")
    return tmp_path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Its manifest: a segmenter of two classes."""
    manifest = make_manifest(
        task="segment",
        inputs=(TensorSpec("image", (1, 8, 8, 3), "uint8"),),
        outputs=(TensorSpec("maps", (1, 2, 8, 8), "float32"),),
        preprocess=Preprocess(8, 8, "squash", 8, 8, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        answer=Answer("class_maps", ("maps",)),
        classes=2,
        labels=LABELS,
        figures={},
    )
    return pack_bundle(tmp_path / "bundle", files={"recipe.toml": b"", "report.json": b"{}"}, manifest=manifest).path


def evaluate(bundle: Path, data: Path, run: Any, **options: Any) -> Evaluation:
    manifest = load_manifest(bundle)
    predictor = SimpleNamespace(
        preprocess=manifest.preprocess, manifest=manifest, run_outputs=run, canary=CanaryCheck("not checked")
    )
    return evaluate_bundle(bundle, data, open_with=lambda _: contextlib.nullcontext(predictor), **options)


def see_sky(pixels: np.ndarray) -> Any:
    """Says that all is sky."""
    return (np.tile(np.array([1, 0], np.float32)[None, :, None, None], (len(pixels), 1, 8, 8)),)


def test_labels_judge_without_a_reference(bundle: Path, data: Path, capsys) -> None:
    found = evaluate(bundle, data, see_sky)
    sky = (128 + 64) / (256 + 192)
    assert found.task_figures == {
        "pixel_accuracy_percent": pytest.approx(100 * sky),
        "miou_percent": pytest.approx(100 * sky / 2),
    }
    assert (found.accuracy, found.top1, found.data.labelled, found.data.images) == (None, None, True, 2)
    assert to_data(found)["task_figures"]["miou_percent"] == pytest.approx(100 * sky / 2)
    _show(Output(), found)
    printed = " ".join(capsys.readouterr().out.split())
    assert f"mIoU {100 * sky / 2:.2f} %" in printed
    assert f"pixel accuracy {100 * sky:.2f} %" in printed


def test_neither_labels_nor_a_reference_judge_nothing(bundle: Path, data: Path) -> None:
    with pytest.raises(DataError, match="says nothing of what the images show") as caught:
        evaluate(bundle, data / "images", see_sky)
    assert "a folder with the folders images and maps, or a COCO file, or --reference" in caught.value.hint


def test_classes_that_the_model_has_not_are_refused_with_the_files(bundle: Path, data: Path) -> None:
    Image.fromarray(np.full((16, 16), 2, np.uint8)).save(data / "maps" / "1.png")
    with pytest.raises(DataError, match=r"1.png: its map 1.png has values that are no class of the model's 2: 2"):
        evaluate(bundle, data, see_sky)


def test_the_float_model_judges_beside_labels(bundle: Path, data: Path, monkeypatch) -> None:
    """Its classes are those of its outputs: a whole model has no logits to count."""
    outputs = load_manifest(bundle).outputs
    whole = SimpleNamespace(assumed=(), classes=0, outputs=outputs)
    monkeypatch.setattr("edgevit.checkpoints.read_checkpoint", lambda *_, **__: whole)
    monkeypatch.setattr("edgevit.models.select_task.select_task", lambda model, _: model)
    halves = np.repeat(np.eye(2, dtype=np.float32), 4, axis=1)[:, None].repeat(8, axis=1)
    monkeypatch.setattr("edgevit.measure.reference.run_outputs", lambda _: lambda pixels: (halves[None],) * len(pixels))
    found = evaluate(bundle, data, see_sky, reference="checkpoint")
    assert found.task_figures["kept_pixels_percent"] == 50
    assert found.task_figures["reference_pixel_accuracy_percent"] == 100
    assert found.accuracy is not None
    assert found.accuracy.task_figures == found.task_figures
