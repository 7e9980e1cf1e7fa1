"""The float model's own answers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from edgevit.core.task import Task
from edgevit.measure import reference
from edgevit.measure.reference import compute_reference, generate_images
from edgevit.models.export import float_module
from edgevit.models.select_task import select_task
from tests.support.small_models import SWIN, VIT, make_model


@pytest.mark.parametrize("config", [VIT, SWIN])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_compute_reference_of_more_images_than_run_at_once_gives_the_modules_answers(
    config: object, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(config)  # type: ignore[arg-type]
    height, width = model.image_size
    monkeypatch.setattr(reference, "PIXELS_AT_A_TIME", 3 * height * width)
    pixels = generate_images(count, height, width, seed=1)
    sizes: list[int] = []
    handle = model.module.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    (found,) = compute_reference(model, pixels)
    handle.remove()
    assert sizes == [3] * (count // 3) + [count % 3] * (count % 3 > 0)
    with torch.inference_mode():
        expected = float_module(model)(torch.from_numpy(pixels)).numpy()
    assert found.shape == (count, model.classes)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_compute_reference_of_features_keeps_every_level() -> None:
    model = select_task(make_model(dataclasses.replace(SWIN)), Task("features"))
    height, width = model.image_size
    found = compute_reference(model, generate_images(2, height, width, seed=1))
    assert [values.shape for values in found] == [(2, *spec.shape[1:]) for spec in model.outputs]
