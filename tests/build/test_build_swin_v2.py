"""Swin V2 through the whole line in INT8: post-norm blocks, cosine attention and a bias from an MLP, in OpenVINO."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from edgevit.build.build import build_model
from edgevit.checkpoints import read_checkpoint
from edgevit.core.cache import StageCache
from edgevit.core.recipe import Recipe
from edgevit.core.target import Budget, load_target
from edgevit.core.task import Task
from edgevit.measure.reference import generate_images, run_outputs
from edgevit.models.select_task import select_task
from edgevit.runtime import open_bundle
from tests.support.reference import import_timm, randomise, save_timm_folder

QUICK = Recipe(
    precision="int8", parity_images=4, choice_images=40, latency_runs=2, latency_seconds=0.05, tune_settings=False
)
TINY = {"img_size": 64, "window_size": 4, "embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4), "num_classes": 7}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swinv2") / "checkpoint"
    module = import_timm().create_model("swinv2_tiny_window8_256", **TINY)
    save_timm_folder(randomise(module), folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    sets = {}
    for seed, use in enumerate(("calibration", "validation")):
        folder = sets[use] = tmp_path_factory.mktemp(use)
        for index, pixels in enumerate(generate_images(12, 64, 64, seed)):
            Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return sets


@pytest.mark.parametrize("name", ["classify", pytest.param("features", marks=pytest.mark.slow)])
def test_int8_engine_of_swin_v2_keeps_the_modules_answers(name, checkpoint, photos, tmp_path) -> None:
    pytest.importorskip("openvino")
    task = Task(name)
    result = build_model(
        checkpoint,
        load_target("intel-cpu"),
        out=tmp_path / "bundle",
        recipe=dataclasses.replace(QUICK, task=task),
        budget=Budget(min_agreement=0.0),  # random weights: the first place says nothing
        cache=StageCache(tmp_path / "cache"),
        **photos,
    )
    report = result.report
    assert report.verdict.chosen in ("int8", "int8-bf16")  # by the processor
    assert report.verdict.passed
    record = report.quantization["int8"]
    quantized = {site.name for site in record.sites if site.precision == "int8"}
    for block in ("layers.0.blocks.1", "layers.1.blocks.0"):
        assert {f"{block}.mlp.fc1", f"{block}.mlp.fc2"} <= quantized
    assert any("post-norm" in note for note in record.notes)
    variant = next(v for v in report.variants if v.name == "int8")
    kept = [variant.accuracy.sqnr_db] if name == "classify" else list(variant.accuracy.level_sqnr_db.values())
    assert len(kept) == (1 if name == "classify" else 2)
    assert min(kept) > 20
    model = select_task(read_checkpoint(checkpoint), task)
    with open_bundle(result.bundle) as predictor:
        pixels = np.stack([predictor.preprocess.apply(p) for p in sorted(photos["validation"].iterdir())[:4]])
        found = [predictor.run_outputs(image[None]) for image in pixels]
    wanted = run_outputs(model)(pixels)
    for index, values in enumerate(wanted):
        ours = np.concatenate([answers[index] for answers in found])
        assert 0 < np.square(ours - values).sum() < 0.01 * np.square(values).sum()
