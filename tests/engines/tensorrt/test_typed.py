"""The strongly typed form against the float32 graph, in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgevit.core.errors import CompileError
from edgevit.core.quantization import Quantization
from edgevit.core.target import ExportForm
from edgevit.engines.tensorrt.typed import type_graph
from edgevit.graph.graph import Graph
from edgevit.graph.half_range import mark_wide
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.models.export import export_model
from tests.support.quantized import quantize_all
from tests.support.small_graphs import CONFIGS, find_node, make_graph, make_pixels, run_graph
from tests.support.small_models import VITS, make_model

FAMILIES = ("vit", "swin")


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest) -> tuple[str, Graph]:
    return request.param, make_graph(request.param, ExportForm(qkv="packed"))


def quantize(family: str) -> Graph:
    graph = make_graph(family, ExportForm(qkv="packed", fold_residual_rotation=True))
    return quantize_all(graph, make_pixels(family, 4), Quantization(float_share=0.0), "tensorrt_rtx")


def list_types(graph: Graph) -> set[ir.DataType | None]:
    return {v.dtype for node in graph.model.graph for v in node.outputs}


@pytest.mark.parametrize("arithmetic", ["fp32", "fp16"])
def test_typed_graph_computes_what_the_float_graph_computes(
    case: tuple[str, Graph], arithmetic: Any, tmp_path: Path
) -> None:
    family, graph = case
    typed = type_graph(graph, arithmetic)
    typed.save(tmp_path / "typed.onnx")
    onnx.checker.check_model(str(tmp_path / "typed.onnx"), full_check=True)
    images = make_pixels(family, 4)
    wanted, found = run_graph(graph, images)[0], run_graph(typed, images)[0]
    assert found.dtype == np.float32
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert error < (1e-6 if arithmetic == "fp32" else 5e-3)
    assert arithmetic == "fp32" or error > 0, "float16 rounds"


@pytest.mark.parametrize("family", ["padded_patches", "padded_patches_rest"])
def test_zeros_around_an_image_are_written_behind_its_cast(family: str) -> None:
    graph = optimize_graph(export_model(make_model(VITS[family]), ExportForm(qkv="packed"))[0])[0]
    typed = type_graph(graph, "fp32")
    assert "Pad" in typed.op_counts()
    assert ir.DataType.UINT8 not in list_types(typed)
    height, width = VITS[family].image_size
    images = np.random.default_rng(1).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    wanted, found = run_graph(graph, [images])[0], run_graph(typed, [images])[0]
    np.testing.assert_allclose(found, wanted, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_typed_int8_graph_answers_as_the_graph_with_float32_scales(family: str, tmp_path: Path) -> None:
    graph = quantize(family)
    typed = type_graph(graph, "fp16")
    typed.save(tmp_path / "typed.onnx")
    onnx.checker.check_model(str(tmp_path / "typed.onnx"), full_check=True)
    images = make_pixels(family, 4)
    wanted, found = run_graph(graph, images)[0], run_graph(typed, images)[0]
    # Rounding to float16 moves some values to the next code.
    assert np.square(found - wanted).sum() < 1e-2 * np.square(wanted).sum()
    pairs = [n for n in typed.model.graph if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    assert {n.inputs[1].dtype for n in pairs} == {ir.DataType.FLOAT16}


def test_fp16_form_has_no_float32_but_the_head(case: tuple[str, Graph]) -> None:
    _, graph = case
    typed = type_graph(graph, "fp16")
    wide = [v.name for node in typed.model.graph for v in node.outputs if v.dtype == ir.DataType.FLOAT]
    assert [name.rsplit("/", 1)[-1] for name in wide] == ["widen", "logits"]
    kept = {v.name for v in typed.model.graph.initializers.values() if v.dtype == ir.DataType.FLOAT}
    assert kept == {v.name for v in find_node(typed, "head").inputs[1:]}


def test_image_is_cast_before_anything_moves_it(case: tuple[str, Graph]) -> None:
    _, graph = case
    for arithmetic in ("fp32", "fp16"):
        typed = type_graph(graph, arithmetic)
        readers = [use.node.op_type for use in typed.model.graph.inputs[0].uses()]
        assert readers == ["Cast"]
        assert ir.DataType.UINT8 not in list_types(typed)


def test_the_float_graph_stays_as_it_is(case: tuple[str, Graph]) -> None:
    family, graph = case
    before = run_graph(graph, make_pixels(family, 1))[0]
    type_graph(graph, "fp16")
    np.testing.assert_array_equal(run_graph(graph, make_pixels(family, 1))[0], before)
    assert ir.DataType.FLOAT16 not in list_types(graph)


@pytest.mark.parametrize("value", [7e4, -7e4, np.inf, np.nan])
def test_weights_beyond_float16_are_refused_with_their_names(value: float) -> None:
    graph = make_graph("vit")
    names = ["blocks.0.mlp.fc1", "blocks.1.mlp.fc2"]
    for name in names:
        weight = find_node(graph, name).inputs[1]
        numbers = weight.const_value.numpy().copy()
        numbers[0, 0] = value
        weight.const_value = ir.tensor(numbers, name=weight.name)
    with pytest.raises(CompileError) as caught:
        type_graph(graph, "fp16")
    assert all(find_node(graph, name).inputs[1].name in caught.value.message for name in names)
    type_graph(graph, "fp32")


def test_scales_that_vanish_in_float16_are_refused() -> None:
    graph = quantize("vit")
    scale = next(n for n in graph.model.graph if n.op_type == "QuantizeLinear").inputs[1]
    scale.const_value = ir.tensor(np.float32(1e-9), name=scale.name)
    with pytest.raises(CompileError, match="which is 0 in float16") as caught:
        type_graph(graph, "fp16")
    assert scale.name in caught.value.message


def test_float16_scales_need_opset_19() -> None:
    graph = quantize("vit")
    graph.model.graph.opset_imports[""] = 18
    with pytest.raises(CompileError, match="opset 18"):
        type_graph(graph, "fp16")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("arithmetic", ["fp32", "fp16"])
def test_sizes_of_a_batch_that_may_vary_stay_whole_numbers(family: str, arithmetic: Any) -> None:
    graph = make_ranged(family)
    typed = type_graph(graph, arithmetic)
    pixels = make_pixels(family, 4)
    for images in (pixels[:1], [np.concatenate(pixels[1:])]):
        wanted, found = run_graph(graph, images)[0], run_graph(typed, images)[0]
        assert np.abs(found - wanted).max() < 5e-3 * np.abs(wanted).max()


@pytest.mark.parametrize("family", FAMILIES)
def test_range_of_float16_is_found_in_a_graph_whose_batch_may_vary(family: str) -> None:
    graph = make_ranged(family)
    assert mark_wide(graph, make_pixels(family, 2)) == ()


def make_ranged(family: str) -> Graph:
    exported, _ = export_model(make_model(CONFIGS[family]), ExportForm(qkv="packed"), batch=(1, 2, 4))
    return optimize_graph(exported)[0]
