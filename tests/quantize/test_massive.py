"""Massive activations: what a plain INT8 loses by them, and that the default recipe finds the sites that carry them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edgevit.build.prepare_quantized import BASE_FILE, PLAN_FILE, QuantizedGraph, prepare_quantized
from edgevit.core.cache import StageCache
from edgevit.core.progress import ignore_progress
from edgevit.core.recipe import load_recipe
from edgevit.core.target import load_target
from edgevit.core.task import Task
from edgevit.graph.graph import Graph
from edgevit.graph.segments import SegmentRunner
from edgevit.models.model import Model
from edgevit.models.select_task import select_task
from edgevit.models.vit import ViT, ViTConfig
from edgevit.pixels.images import ImageSet
from edgevit.quantize.plan import apply_plan
from edgevit.quantize.plan_file import load_plan
from tests.support.massive import Massive, plant_massive, read_stream
from tests.support.photos import make_photo
from tests.support.small_models import make_model

CONFIG = ViTConfig(
    image_size=(56, 56), patch_size=(7, 7), width=64, depth=6, heads=4, mlp_width=256, classes=0, layer_scale=True
)
FIRST, LAST = 2, 4

Pixels = list[npt.NDArray[np.uint8]]


@dataclasses.dataclass(frozen=True)
class Case:
    """A planted model and its photos: 12 that it is quantised on, 12 that it is judged on."""

    model: Model
    planted: Massive
    images: ImageSet
    judged: Pixels


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("massive")
    for index in range(24):
        place = folder / ("calibration" if index < 12 else "judged")
        place.mkdir(exist_ok=True)
        make_photo(*CONFIG.image_size, index).save(place / f"{index:02}.png")
    model = make_model(CONFIG)
    seen, judged = (read_pixels(model, ImageSet.read(folder / name)) for name in ("calibration", "judged"))
    planted = plant_massive(model, normalise(model, seen), FIRST, LAST)
    model = dataclasses.replace(model, source=dataclasses.replace(model.source, sha256=f"massive {planted!r}"))
    return Case(select_task(model, Task("embed")), planted, ImageSet.read(folder / "calibration"), judged)


@pytest.fixture(scope="module")
def made(case: Case, tmp_path_factory: pytest.TempPathFactory) -> QuantizedGraph:
    """As a build makes it for OpenVINO by the default recipe."""
    recipe = dataclasses.replace(load_recipe("default"), task=case.model.task)
    cache = StageCache(tmp_path_factory.mktemp("cache"))
    return prepare_quantized("int8", case.model, load_target("intel-cpu"), recipe, case.images, cache, ignore_progress)


def read_pixels(model: Model, images: ImageSet) -> Pixels:
    return [batch.pixels for batch in images.batches(model.preprocess, 1)]


def normalise(model: Model, pixels: Pixels) -> torch.Tensor:
    values = model.preprocess.normalize(np.concatenate(pixels)).transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def measure_db(case: Case, graph: Graph) -> float:
    """SQNR of the embeddings of the judged photos."""
    runner = SegmentRunner(graph)
    with torch.no_grad():
        wanted = case.model.module(normalise(case.model, case.judged)).numpy()
    found = np.concatenate([runner.run(pixels)[0] for pixels in case.judged])
    return float(10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum()))


def test_plant_massive_is_of_the_published_size_at_its_tokens_and_channels_on_unseen_photos(case: Case) -> None:
    assert isinstance(case.model.module, ViT)
    stream = read_stream(case.model.module, normalise(case.model, case.judged))
    planted = case.planted
    for index, values in enumerate(stream):
        massive = values.abs() > 100
        inside = FIRST <= index < LAST
        assert massive.any() == inside
        if inside:
            assert massive[:, planted.tokens][..., planted.channels].all(), "at each of its tokens, on every photo"
            assert int(massive.sum()) == len(values) * len(planted.tokens) * len(planted.channels), "and nowhere else"
            assert float(values.abs().median()) < 2


def test_default_recipe_leaves_float_what_writes_massive_activations_and_loses_little(
    case: Case, made: QuantizedGraph
) -> None:
    floats = [site.name for site in made.record.sites if site.precision == "float"]
    assert f"blocks.{FIRST}.mlp.fc2" in floats
    assert len(floats) <= 2, "of all sites"
    assert measure_db(case, Graph.load(made.path)) >= 30


def test_massive_activations_spoil_int8_of_all_sites(case: Case, made: QuantizedGraph) -> None:
    source = Path(made.source)
    every = apply_plan(Graph.load(source / BASE_FILE), load_plan(source / PLAN_FILE))
    assert measure_db(case, every) < 22
