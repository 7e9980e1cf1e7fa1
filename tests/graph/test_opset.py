"""Graphs of other opsets are valid there and compute the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgevit.build.prepare import prepare_graph
from edgevit.core.cache import StageCache
from edgevit.core.errors import CompileError
from edgevit.core.progress import ignore_progress
from edgevit.core.quantization import Quantization
from edgevit.core.recipe import Recipe
from edgevit.core.target import ExportForm, load_target
from edgevit.engines.tensorrt.typed import type_graph
from edgevit.graph.graph import Graph
from edgevit.graph.opset import restate_opset
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.models.export import export_model
from tests.support.quantized import quantize_all
from tests.support.small_graphs import CONFIGS, find_node, make_graph, make_pixels, run_graph
from tests.support.small_models import SWINS, make_model

PACKED = ExportForm(qkv="packed")
OLD = load_target("jetson-jetpack-6.0")


def check(graph: Graph, folder: Path) -> None:
    graph.save(folder / "graph.onnx")
    onnx.checker.check_model(str(folder / "graph.onnx"), full_check=True)


@pytest.mark.parametrize("family", ["vit", "swin"])
def test_graph_for_jetpack_6_0_has_opset_17_and_the_same_answers(family: str, tmp_path: Path) -> None:
    assert (OLD.opset, OLD.strongly_typed, OLD.runtime_version) == (17, False, "8.6")
    model = make_model(CONFIGS[family])
    prepared = prepare_graph(model, OLD, Recipe(export=OLD.export), StageCache(tmp_path / "cache"), ignore_progress)
    graph = Graph.load(prepared.path)
    assert graph.model.graph.opset_imports[""] == 17
    assert "Gelu" not in graph.op_counts(), "it begins with opset 20"
    usual = make_graph(family, PACKED)
    named = [[n.name for n in g.model.graph if n.op_type in ("Conv", "MatMul")] for g in (graph, usual)]
    assert named[0] == named[1], "a recipe pins sites by these names"
    images = make_pixels(family, 2)
    wanted = run_graph(usual, images)[0]
    np.testing.assert_allclose(run_graph(graph, images)[0], wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("family", ["vit", pytest.param("swin", marks=pytest.mark.slow)])
def test_int8_graph_of_opset_17_is_valid_with_float32_scales_and_rises_to_float16_ones(
    family: str, tmp_path: Path
) -> None:
    form = dataclasses.replace(PACKED, fold_residual_rotation=True)
    graph = optimize_graph(export_model(make_model(CONFIGS[family]), form, opset=17)[0])[0]
    restate_opset(graph, 17)
    images = make_pixels(family, 4)
    quantized = quantize_all(graph, images, Quantization(float_share=0.0, rounding="nearest"), "tensorrt")
    by_flags = type_graph(quantized, "fp32")
    check(by_flags, tmp_path)
    scales = {n.inputs[1].dtype for n in by_flags.model.graph if n.op_type == "QuantizeLinear"}
    assert scales == {ir.DataType.FLOAT}
    wanted = run_graph(by_flags, images)[0]
    restate_opset(quantized, 19)
    raised = type_graph(quantized, "fp16")
    check(raised, tmp_path)
    assert np.square(run_graph(raised, images)[0] - wanted).sum() < 1e-2 * np.square(wanted).sum()


@pytest.mark.parametrize("opset", [17, 18])
def test_axes_and_split_sizes_go_both_ways(opset: int, tmp_path: Path) -> None:
    graph = make_graph("swin", PACKED)  # has a mean over tokens, and a split of queries, keys and values
    gelu = [n for n in graph.model.graph if n.op_type == "Gelu"]
    for node in gelu:  # which opset 17 has not
        twin = ir.node("Tanh", [node.inputs[0]], name=node.name)
        graph.model.graph.insert_before(node, twin)
        node.outputs[0].replace_all_uses_with(twin.outputs[0])
        graph.model.graph.remove(node)
    images = make_pixels("swin", 1)
    wanted = run_graph(graph, images)[0]
    for step in (opset, 20, opset):
        restate_opset(graph, step)
        check(graph, tmp_path)
        np.testing.assert_array_equal(run_graph(graph, images)[0], wanted)
    mean = next(n for n in graph.model.graph if n.op_type == "ReduceMean")
    assert ("axes" in mean.attributes) is (opset == 17)


def test_ops_that_changed_otherwise_are_refused_by_name() -> None:
    graph = make_graph("vit")
    node = find_node(graph, "blocks.0.mlp.fc1")
    axes = ir.Value(name="axes")
    for twin in (
        ir.node("Resize", [node.inputs[0]], name="blocks.0.mlp/resize"),
        ir.node("Pad", [node.inputs[0], None, None, axes], name="blocks.0.mlp/pad"),
        ir.node("Pad", [node.inputs[0]], {"mode": "wrap"}, name="blocks.0.mlp/wrap"),
    ):
        graph.model.graph.insert_before(node, twin)
    with pytest.raises(CompileError) as caught:
        restate_opset(graph, 17)
    for named in ("blocks.0.mlp/resize: Resize", "blocks.0.mlp/pad: Pad", "blocks.0.mlp/wrap: Pad"):
        assert named in caught.value.message


def test_swin_whose_windows_overhang_the_grid_has_opset_17_too(tmp_path: Path) -> None:
    """It pads; TensorRT 8.6's graph was refused for that."""
    graph = optimize_graph(export_model(make_model(SWINS["overhang"]), PACKED, opset=20)[0])[0]
    assert "Pad" in graph.op_counts()
    for node in [n for n in graph.model.graph if n.op_type == "Gelu"]:
        twin = ir.node("Tanh", [node.inputs[0]], name=node.name)
        graph.model.graph.insert_before(node, twin)
        node.outputs[0].replace_all_uses_with(twin.outputs[0])
        graph.model.graph.remove(node)
    pixels = np.random.default_rng(0).integers(0, 256, (1, *SWINS["overhang"].image_size, 3), dtype=np.uint8)
    wanted = run_graph(graph, [pixels])[0]
    restate_opset(graph, 17)
    check(graph, tmp_path)
    np.testing.assert_array_equal(run_graph(graph, [pixels])[0], wanted)
