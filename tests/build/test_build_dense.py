"""A bundle of a whole model answers as transformers does, from its folder and from an ONNX file with its config."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgevit.build.build import build_model
from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.transformers.dense_tasks import read_dense
from edgevit.core.errors import CheckpointError
from edgevit.core.recipe import Recipe
from edgevit.core.target import load_target
from edgevit.core.task import Task
from edgevit.models.select_task import select_task
from edgevit.runtime import open_bundle
from tests.support.dense_models import DENSE_MODELS, answer_by_transformers, check_answer, write_dense_model
from tests.support.photos import make_photo, write_photos

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    path = tmp_path_factory.mktemp("depth")
    return path, *write_dense_model("depth_anything_metric", path)


@pytest.fixture(scope="module")
def onnx_file(folder: tuple[Path, Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported as anybody would, with another name for its output."""
    path, model, _ = folder

    class Bare(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            depth: torch.Tensor = self.model(pixel_values=pixels).predicted_depth
            return depth

    out = tmp_path_factory.mktemp("onnx")
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(path / name, out)
    torch.onnx.export(
        Bare().eval(),
        (torch.zeros(1, 3, 70, 84),),
        str(out / "depth.onnx"),
        input_names=["pixels"],
        output_names=["depth"],
        opset_version=17,
        dynamo=False,
    )
    return out / "depth.onnx"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folders = tmp_path_factory.mktemp("calibration"), tmp_path_factory.mktemp("validation")
    return write_photos(folders, 12, 90, 120)


def test_bundle_of_a_folder_gives_transformers_depth(
    folder: tuple[Path, Any, Any], images: tuple[Path, Path], tmp_path: Path
) -> None:
    path, model, processor = folder
    recipe = Recipe(precision="fp32", latency_runs=2, latency_seconds=0.05, tune_settings=False)
    calibration, validation = images
    build_model(
        path, load_target("cpu"), out=tmp_path / "b", recipe=recipe, calibration=calibration, validation=validation
    )
    with open_bundle(tmp_path / "b") as opened:
        manifest = opened.manifest
        assert (manifest.task, manifest.classes, manifest.labels) == ("depth", 0, None)
        assert manifest.answer is not None
        assert manifest.answer.metric
        for photo in (make_photo(61, 93), make_photo(130, 70, seed=1)):
            found = opened.depth(photo)
            with torch.inference_mode():
                result = model(**processor(photo, return_tensors="pt"))
            (wanted,) = processor.post_process_depth_estimation(result, target_sizes=[(photo.height, photo.width)])
            depth = wanted["predicted_depth"].numpy()
            np.testing.assert_allclose(found.depth, depth, atol=1e-4 * np.abs(depth).max())


def test_onnx_file_with_the_config_beside_it_has_its_task(onnx_file: Path) -> None:
    model = read_checkpoint(onnx_file)
    assert model.task.name == "depth"
    assert model.answer is not None
    assert (model.answer.outputs, model.answer.metric) == (("depth",), True)
    assert model.preprocess.std == (0.5, 0.5, 0.5)
    assert model.preprocess.resampling == "torch"
    assert select_task(model, Task()).task.name == "depth"
    assert select_task(model, Task("map")).answer is None
    assert select_task(model, Task("embed")).answer is None
    with pytest.raises(CheckpointError, match="an answer to pose"):
        select_task(model, Task("pose"))


def test_onnx_file_whose_outputs_are_not_the_configs_is_refused(onnx_file: Path, tmp_path: Path) -> None:
    shutil.copy(onnx_file, tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["UperNetForSemanticSegmentation"]}')
    with pytest.raises(CheckpointError, match="class_maps"):
        read_checkpoint(tmp_path / "depth.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", DENSE_MODELS)
def test_bundle_of_every_class_answers_as_transformers(name: str, images: tuple[Path, Path], tmp_path: Path) -> None:
    model, processor = write_dense_model(name, tmp_path / "folder")
    config, stored = ((tmp_path / "folder" / f"{file}.json").read_text() for file in ("config", "preprocessor_config"))
    task = read_dense(json.loads(config), json.loads(stored), None)
    recipe = Recipe(
        precision="fp32",
        latency_runs=2,
        latency_seconds=0.05,
        tune_settings=False,
        settings={"inference_precision": "f32"},
    )
    calibration, validation = images
    build_model(
        tmp_path / "folder",
        load_target("intel-cpu"),
        out=tmp_path / "b",
        recipe=recipe,
        calibration=calibration,
        validation=validation,
    )
    with open_bundle(tmp_path / "b") as opened:
        for photo in (make_photo(90, 150), make_photo(131, 77, seed=1)):
            ask = getattr(opened, opened.manifest.task)
            found = ask(photo, threshold=0.0) if opened.manifest.task == "detect" else ask(photo)
            check_answer(found, answer_by_transformers(model, processor, photo, task), (photo.height, photo.width))


@pytest.mark.slow
def test_int8_of_a_detector_that_sorts_its_queries_is_not_refused_for_rows_that_changed_places(
    images: tuple[Path, Path], tmp_path: Path
) -> None:
    write_dense_model("rf_detr", tmp_path / "folder")
    recipe = Recipe(precision="int8", latency_runs=2, latency_seconds=0.05, tune_settings=False)
    calibration, validation = images
    result = build_model(
        tmp_path / "folder",
        load_target("intel-cpu"),
        out=tmp_path / "b",
        recipe=recipe,
        calibration=calibration,
        validation=validation,
    )
    variants = [variant for variant in result.report.variants if variant.precision == "int8"]
    assert variants
    for variant in variants:
        assert variant.parity is not None
        assert variant.parity.passed, variant.parity.reason
        assert variant.accuracy is not None
    assert result.report.verdict.chosen.startswith("int8")
