"""A folder's own words give the answers of transformers' model and processor, from the image on.

The module is transformers' own, so that this is about everything around it: inputs, names, and what is made of outputs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgevit.checkpoints.transformers.dense_tasks import read_dense
from edgevit.core.engine import TensorSpec
from edgevit.pixels.decode import decode_image
from edgevit.runtime.tasks.answer_image import answer_image, make_inputs
from edgevit.runtime.tasks.answers import Depth, Detections, Poses, Segmentation
from tests.support.dense_models import DENSE_MODELS, write_dense_model
from tests.support.photos import make_photo

SIZES = [(90, 150), (131, 77)]


@pytest.fixture(scope="module", params=DENSE_MODELS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    path = tmp_path_factory.mktemp(request.param)
    return path, *write_dense_model(request.param, path)


@pytest.mark.parametrize("size", SIZES)
def test_answer_is_transformers(folder: tuple[Path, Any, Any], size: tuple[int, int]) -> None:
    path, model, processor = folder
    config = json.loads((path / "config.json").read_text())
    task = read_dense(config, json.loads((path / "preprocessor_config.json").read_text()), None)
    photo = make_photo(*size)
    ours = answer_by_us(model, task, photo)
    wanted = answer_by_transformers(model, processor, photo, task)
    if isinstance(ours, Depth):
        depth = wanted["predicted_depth"].numpy()
        assert np.ptp(depth) > 0
        np.testing.assert_allclose(ours.depth, depth, atol=1e-4 * np.abs(depth).max())
        assert ours.metric == (config.get("depth_estimation_type") == "metric")
    elif isinstance(ours, Segmentation):
        assert (ours.classes == wanted.numpy()).mean() > 0.9999
        assert ours.labels == tuple(f"thing {index}" for index in range(5))
    elif isinstance(ours, Detections):
        order = torch.argsort(-wanted["scores"], stable=True)
        np.testing.assert_array_equal(ours.classes, wanted["labels"][order].numpy())
        np.testing.assert_allclose(ours.scores, wanted["scores"][order].numpy(), atol=1e-5)
        np.testing.assert_allclose(ours.boxes, wanted["boxes"][order].numpy(), atol=1e-4 * max(size))
    else:
        assert isinstance(ours, Poses)
        np.testing.assert_allclose(ours.keypoints[0, :, :2], wanted["keypoints"].numpy(), atol=1e-2)
        np.testing.assert_allclose(ours.keypoints[0, :, 2], wanted["scores"].numpy(), atol=1e-5)
        assert len(ours.edges) == 3


def answer_by_us(model: Any, task: Any, photo: Image.Image) -> Any:
    inputs = make_inputs(task.answer, task.preprocess, decode_image(photo))
    pixels = np.stack([task.preprocess.normalize(one) for one in inputs]).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        result = model(pixel_values=torch.from_numpy(np.ascontiguousarray(pixels)))
    outputs = {name: getattr(result, name).numpy() for name in task.answer.outputs}
    specs = [TensorSpec(name, ("batch", *values.shape[1:]), "float32") for name, values in outputs.items()]
    assert task.answer.find_problems(specs, None if task.labels is None else len(task.labels)) == []
    size = photo.height, photo.width
    return answer_image(task.answer, task.preprocess, outputs, size, labels=task.labels, threshold=0.0)


def answer_by_transformers(model: Any, processor: Any, photo: Image.Image, task: Any) -> Any:
    sizes = [(photo.height, photo.width)]
    name = type(model).__name__
    if "Pose" in name:
        boxes = [[[0.0, 0.0, float(photo.width), float(photo.height)]]]
        with torch.inference_mode():
            result = model(pixel_values=processor(photo, boxes=boxes, return_tensors="pt")["pixel_values"])
        return processor.post_process_pose_estimation(result, boxes=boxes)[0][0]
    if "RfDetr" in name:  # its processor resizes in float, and an engine takes 8 bits: half a grey level reorders boxes
        inputs = processor(Image.fromarray(task.preprocess.apply(photo)), do_resize=False, return_tensors="pt")
    else:
        inputs = processor(photo, return_tensors="pt")
    with torch.inference_mode():
        result = model(pixel_values=inputs["pixel_values"])
    if "Depth" in name:
        return processor.post_process_depth_estimation(result, target_sizes=sizes)[0]
    if "Detection" in name:
        return processor.post_process_object_detection(result, threshold=0.0, target_sizes=sizes)[0]
    if "Eomt" in name:
        result.patch_offsets = [offsets.tolist() for offsets in inputs["patch_offsets"]]
    return processor.post_process_semantic_segmentation(result, target_sizes=sizes)[0]
