"""Models that give their own graph, built for a range of batches."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from edgevit.build.build import build_model
from edgevit.build.open_graph import EXAMPLE, fix_batch
from edgevit.checkpoints import read_checkpoint
from edgevit.checkpoints.transformers.dense_tasks import read_dense
from edgevit.core.errors import CompileError
from edgevit.core.recipe import Recipe
from edgevit.core.target import Precision, load_target
from edgevit.runtime import open_bundle
from tests.support.dense_models import (
    DENSE_MODELS,
    answer_by_transformers,
    check_answer,
    make_dense_model,
    write_dense_model,
)
from tests.support.foreign_exports import export
from tests.support.photos import make_photo, write_photos
from tests.support.quantized import without_ranking
from tests.support.reference import import_transformers
from tests.support.small_models import VIT, make_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")

QUICK: dict[str, Any] = {"latency_runs": 2, "latency_seconds": 0.05, "tune_settings": False, "batch": (1, 2, 3)}


QUICK_FIRST = [pytest.param(n, marks=() if n == "depth_anything" else pytest.mark.slow) for n in DENSE_MODELS]


@pytest.fixture(autouse=True)
def unranked() -> Iterator[None]:
    """What a site costs is of no matter here, and takes a third of these builds."""
    with without_ranking():
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folders = tmp_path_factory.mktemp("calibration"), tmp_path_factory.mktemp("validation")
    return write_photos(folders, 16, 90, 120)


def build(source: Path, target: str, out: Path, images: tuple[Path | None, Path | None], precision: Precision) -> Any:
    recipe = Recipe(precision=precision, **QUICK)
    calibration, validation = images
    return build_model(
        source, load_target(target), out=out, recipe=recipe, calibration=calibration, validation=validation
    )


@pytest.mark.parametrize("name", QUICK_FIRST)
def test_folder_of_a_whole_model_answers_any_number_of_images_as_transformers(
    name: str, images: tuple[Path, Path], tmp_path: Path
) -> None:
    model, processor = write_dense_model(name, tmp_path / "folder")
    build(tmp_path / "folder", "cpu", tmp_path / "b", images, "fp32")
    config, stored = ((tmp_path / "folder" / f"{file}.json").read_text() for file in ("config", "preprocessor_config"))
    task = read_dense(json.loads(config), json.loads(stored), None)
    photos = [make_photo(61, 93), make_photo(130, 70, seed=1), make_photo(80, 80, seed=2)]
    with open_bundle(tmp_path / "b") as opened:
        assert opened.manifest.batch == (1, 2, 3)
        assert {spec.shape[0] for spec in opened.manifest.outputs} == {"batch"}
        answer: Any = {
            "depth": opened.depth_batch,
            "segment": opened.segment_batch,
            "detect": functools.partial(opened.detect_batch, threshold=0.0),
            "pose": opened.pose_batch,
        }[task.task.name]
        for count in (1, 2, 3):
            for found, photo in zip(answer(photos[:count]), photos, strict=False):
                wanted = answer_by_transformers(model, processor, photo, task)
                check_answer(found, wanted, (photo.height, photo.width))


@pytest.mark.parametrize("name", ["depth_anything", pytest.param("upernet_swin", marks=pytest.mark.slow)])
def test_jetson_is_rehearsed_with_an_open_batch_for_depth_and_classes_of_pixels(
    name: str, images: tuple[Path, Path], tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx")
    write_dense_model(name, tmp_path / "folder")
    report = build(tmp_path / "folder", "jetson", tmp_path / "b", images, "int8").report
    assert "int8" in report.fusion
    assert not [warning for warning in report.verdict.warnings if "refused" in warning]
    assert all(record.attention for record in report.fusion.values())


@pytest.mark.parametrize("target", ["intel-cpu", "cpu"])
def test_int8_engine_of_a_file_gives_each_image_of_a_call_its_own_answer(
    target: str, images: tuple[Path, Path], tmp_path: Path
) -> None:
    transformers = import_transformers()
    model, _ = make_dense_model("vitpose")

    class Heatmaps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            maps: torch.Tensor = self.model(pixel_values=pixels).heatmaps
            return maps

    torch.onnx.export(
        Heatmaps().eval(), (torch.zeros(2, 3, 64, 48),), str(tmp_path / "m.onnx"), dynamo=False, opset_version=17,
        input_names=["pixels"], output_names=["maps"], dynamic_axes={"pixels": {0: "n"}, "maps": {0: "n"}},
    )  # fmt: skip
    processor = transformers.ViTImageProcessor(size={"height": 64, "width": 48})
    processor.save_pretrained(tmp_path)
    build(tmp_path / "m.onnx", target, tmp_path / "b", images, "int8")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 48, 3), dtype=np.uint8)
    with open_bundle(tmp_path / "b") as opened:
        assert opened.manifest.precision == "int8"
        alone = np.concatenate([opened.session.run_outputs(image[None])[0] for image in pixels])
        together = opened.session.run_outputs(pixels)[0]
    np.testing.assert_allclose(together, alone, atol=1e-3 * np.abs(alone).max())


def test_range_of_batches_for_a_file_of_one_number_is_refused(tmp_path: Path) -> None:
    model = read_checkpoint(mix_images(tmp_path, 4))
    with pytest.raises(CompileError, match="was exported for 4 images a call, and a range was") as caught:
        fix_batch(model, Recipe(batch=(1, 2, 4)))
    assert "--batch 4" in caught.value.hint
    assert fix_batch(model, Recipe(batch=(4, 4, 4))).batch == (4, 4, 4)


def test_file_that_mixes_images_is_refused_with_the_place(tmp_path: Path) -> None:
    source = mix_images(tmp_path, None)
    with pytest.raises(CompileError, match=r"takes one number of images a call, not a range: .*mixes") as caught:
        build(source, "cpu", tmp_path / "b", (None, None), "fp32")
    assert caught.value.hint.startswith("give one number, --batch 2; if an image's answer depends on the others")
    assert not (tmp_path / "b").exists()


def test_canonical_modules_are_exported_with_an_open_batch_at_once() -> None:
    recipe = Recipe(batch=(1, 2, 4))
    assert fix_batch(make_model(VIT), recipe) is recipe
    assert EXAMPLE > 1


def mix_images(folder: Path, batch: int | None) -> Path:
    """A ViT whose logits are centred over the batch; fixed to a number of images, or of any number."""
    model = onnx.load(str(export("timm_vit", "script", batch=batch).path))
    model.graph.node[-1].output[0] = "own"
    model.graph.node.append(onnx.helper.make_node("ReduceMean", ["own"], ["mean"], axes=[0], keepdims=1))
    model.graph.node.append(onnx.helper.make_node("Sub", ["own", "mean"], ["logits"]))
    onnx.save(model, str(folder / "mixed.onnx"))
    return folder / "mixed.onnx"
