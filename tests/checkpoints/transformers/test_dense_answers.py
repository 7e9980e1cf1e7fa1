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
from tests.support.dense_models import DENSE_MODELS, answer_by_transformers, check_answer, write_dense_model
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
    check_answer(ours, wanted, size)


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
