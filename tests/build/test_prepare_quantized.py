"""The stage between the float graph and the INT8 engine: what it feeds, keeps and finds again."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from edgevit.build.prepare_quantized import RANDOM_IMAGES, prepare_quantized, requantize
from edgevit.build.set_back import mark_float
from edgevit.core.cache import StageCache
from edgevit.core.progress import ignore_progress
from edgevit.core.quantization import SQNR_DB, Quantization, QuantizationRecord, SiteChoice, SiteRecord
from edgevit.core.recipe import Recipe
from edgevit.core.target import load_target
from edgevit.graph.graph import Graph
from edgevit.measure.reference import generate_images
from edgevit.pixels.images import ImageSet
from edgevit.quantize.plan import QuantizationPlan
from tests.support.small_models import SWIN, VIT, VITS, make_model

CPU = load_target("cpu")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for index, pixels in enumerate(generate_images(6, 40, 50, 3)):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return ImageSet.read(folder)


@pytest.fixture
def calls(monkeypatch):
    """What the quantiser was called with; it returns the float graph and an empty plan."""
    seen: list[tuple[Any, ...]] = []

    def plan_quantization(graph, pixels, quantization, backend, *, seed, **others):
        pixels = list(pixels)
        seen.append((graph, pixels, quantization, backend, seed))
        record = QuantizationRecord(len(pixels), sites=(SiteRecord("head", "int8", sqnr_db=40.0),))
        return graph, QuantizationPlan(), record

    monkeypatch.setattr("edgevit.quantize.quantize.plan_quantization", plan_quantization)
    return seen


def prepare(model, images, tmp_path, **settings):
    cache = StageCache(tmp_path / "cache")
    return prepare_quantized("int8", model, CPU, Recipe(**settings), images, cache, ignore_progress)


def names(result, kind):
    record = next(r for r in result.passes if r.name == kind)
    return record.enabled, record.applied


def test_quantiser_gets_every_image_as_the_app_would_feed_it(calls, images, tmp_path):
    model = make_model(VIT)
    result = prepare(model, images, tmp_path, seed=5)
    _, pixels, quantization, backend, seed = calls[0]
    assert (quantization, backend, seed) == (dataclasses.replace(Quantization(), sqnr_db=SQNR_DB), "onnxruntime", 5)
    assert [p.shape for p in pixels] == [(1, 32, 48, 3)] * 6
    for fed, file in zip(pixels, images.files, strict=True):
        np.testing.assert_array_equal(fed[0], model.preprocess.apply(images.root / file))
    assert (result.record.images, result.record.random) == (6, False)
    assert result.record.worst[0].name == "head"


def test_graph_of_a_static_batch_is_fed_whole_calls_and_images_are_counted_once(calls, images, tmp_path):
    result = prepare(make_model(VIT), images, tmp_path, batch=(4, 4, 4))
    pixels = calls[0][1]
    assert [p.shape for p in pixels] == [(4, 32, 48, 3)] * 2
    np.testing.assert_array_equal(pixels[1][2:], pixels[0][:2])
    assert result.record.images == 6


def test_random_pixels_are_few_seeded_and_recorded(calls, tmp_path):
    first = prepare(make_model(VIT), None, tmp_path, seed=1)
    prepare(make_model(VIT), None, tmp_path, seed=2)
    assert (first.record.images, first.record.random) == (RANDOM_IMAGES, True)
    np.testing.assert_array_equal(np.concatenate(calls[0][1]), generate_images(RANDOM_IMAGES, 32, 48, 1))
    assert not np.array_equal(calls[0][1][0], calls[1][1][0])


@pytest.mark.parametrize("rotate", [True, False])
def test_residual_stream_is_rotated_as_the_recipe_says(calls, images, tmp_path, rotate):
    result = prepare(make_model(VIT), images, tmp_path, quantization=Quantization(rotate=rotate))
    assert names(result, "residual_rotation")[0] is rotate
    assert result.record.notes == ()


def test_model_that_cannot_be_rotated_is_quantised_with_a_note(calls, images, tmp_path):
    model = make_model(VIT)
    form = dataclasses.replace(CPU.export, fold_position_embedding=False)
    result = prepare(model, images, tmp_path, export=form)
    assert names(result, "residual_rotation") == (True, ())
    assert result.record.notes == ("blocks: the residual stream is not rotated: the position embedding is not folded",)


def test_equal_inputs_are_quantised_once_and_any_other_again(calls, images, tmp_path):
    model = make_model(VIT)
    first = prepare(model, images, tmp_path)
    assert prepare(model, images, tmp_path) == first
    assert len(calls) == 1
    pins: dict[str, SiteChoice] = {"blocks.*": "float", "blocks.0.*": "int8"}
    others: list[dict[str, Any]] = [
        {"quantization": Quantization(bias_correction=False)},
        {"quantization": Quantization(sites=pins)},
        {"quantization": Quantization(sites=dict(reversed(pins.items())))},  # the later pin goes over the earlier one
        {"seed": 1},
    ]
    found = {prepare(model, images, tmp_path, **settings).path for settings in others}
    assert len(found | {first.path}) == len(calls) == 5
    prepare(model, images.subset(5, 0), tmp_path)
    assert len(calls) == 6


@pytest.mark.parametrize(
    ("config", "batch"),
    [
        pytest.param(VIT, (1, 1, 1), id="vit"),
        pytest.param(VIT, (2, 2, 2), id="vit, two"),
        pytest.param(VITS["mean"], (1, 2, 4), id="vit_mean, any"),
        pytest.param(SWIN, (1, 2, 4), id="swin, any"),
        *(
            pytest.param(config, batch, marks=pytest.mark.slow)
            for config, batch in [(VIT, (1, 2, 4)), (VITS["mean"], (1, 1, 1)), (VITS["mean"], (2, 2, 2))]
        ),
        *(pytest.param(SWIN, batch, marks=pytest.mark.slow) for batch in [(1, 1, 1), (2, 2, 2)]),
    ],
)
def test_quantised_graph_answers_nearly_as_the_float_module(config, batch, images, tmp_path):
    """With the real quantiser: pairs are in the graph, it is smaller, and its logits are those of the float model."""
    import onnxruntime

    from edgevit.measure.reference import run_module

    model = make_model(config)
    quantization = Quantization(products="float")
    result = prepare(model, images, tmp_path, batch=batch, quantization=quantization)
    assert result.op_counts["QuantizeLinear"] > 0
    assert result.op_counts == Graph.load(result.path).op_counts()
    stored = {i.data_type for i in onnx.load(result.path).graph.initializer if len(i.dims) == 2}
    assert onnx.TensorProto.INT8 in stored
    assert {s.precision for s in result.record.sites} == {"int8", "float"}
    height, width = config.image_size
    pixels = generate_images(batch[1], height, width, 9)
    session = onnxruntime.InferenceSession(str(result.path), providers=["CPUExecutionProvider"])
    answer = session.run(None, {"image": pixels})[0]
    expected = run_module(model)(pixels)
    noise = ((answer - expected) ** 2).sum() / (expected**2).sum()
    assert 0 < noise < 1e-2


def test_sites_go_back_to_float_without_calibrating_again(images, tmp_path):
    result = prepare(make_model(VIT), images, tmp_path)
    whole = tmp_path / "whole.onnx"
    assert requantize(result.source, result.record, CPU.backend, whole) == result.op_counts
    assert whole.read_bytes() == result.path.read_bytes()
    site = "blocks.1.mlp.fc2"
    record = mark_float(result.record, (site,))
    counts = requantize(result.source, record, CPU.backend, tmp_path / "partly.onnx")
    assert counts["QuantizeLinear"] == result.op_counts["QuantizeLinear"] - 1
    assert counts["DequantizeLinear"] == result.op_counts["DequantizeLinear"] - 2, "of the input and of the weight"
    before, after = read_constants(result.path), read_constants(tmp_path / "partly.onnx")
    assert f"{site}.weight.codes" not in after
    assert all(np.array_equal(before[name], after[name]) for name in before.keys() & after.keys())


def read_constants(path):
    return {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}
