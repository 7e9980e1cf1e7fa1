"""What OpenVINO executes for our INT8 graphs, read from its runtime graph."""

from __future__ import annotations

import platform
from collections import Counter
from pathlib import Path

import numpy as np
import openvino
import pytest

from edgevit.core.quantization import Quantization
from edgevit.graph.graph import Graph
from edgevit.graph.passes.fuse_row_gather import fuse_row_gather
from edgevit.quantize.plan import apply_plan
from tests.support.quantized import fit_sites
from tests.support.small_graphs import Images, make_graph, make_pixels, run_graph

ATTENTIONS = {"vit": 2, "swin": 3}
LINEARS = {"vit": 2 * 6 + 2, "swin": 3 * 6 + 3}  # of blocks; patch embedding, patch merging, head

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="int8 kernels of x86-64")


@pytest.fixture(scope="module", params=["vit", "swin"])
def case(request: pytest.FixtureRequest) -> tuple[str, Graph]:
    family = request.param
    recipe = Quantization(products="both", sqnr_db=-20, observer="minmax", rounding="nearest")
    base, plan, _ = fit_sites(make_graph(family), make_pixels(family, 4), recipe, "openvino")
    graph = apply_plan(base, plan)
    fuse_row_gather(graph)
    return family, graph


def compile_graph(graph: Graph, folder: Path) -> openvino.CompiledModel:
    graph.save(folder / "int8.onnx")
    return openvino.Core().compile_model(folder / "int8.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def list_executed(compiled: openvino.CompiledModel) -> list[dict[str, str]]:
    """Layers as they run, but for constants and the ends."""
    layers = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        layer = {key: info[key].astype(str) for key in ("layerType", "runtimePrecision", "outputPrecisions")}
        if layer["layerType"] not in ("Const", "Input", "Output"):
            layers.append(layer)
    return layers


def test_int8_graph_runs_in_fused_layers_alone(case: tuple[str, Graph], tmp_path: Path) -> None:
    family, graph = case
    layers = list_executed(compile_graph(graph, tmp_path))
    counts = Counter(layer["layerType"] for layer in layers)
    # Nothing quantises by itself; products, softmax, gains and requantisation are inside one Subgraph an attention.
    assert not counts.keys() & {
        "FakeQuantize",
        "MatMul",
        "Softmax",
        "Convert",
        "Reorder",
        "Convolution",
        "Gelu",
        "Split",
    }
    # Of a Swin no window, head or merged patch is cut out or put together; a ViT's class token is, once.
    cut = {kind: counts[kind] for kind in ("Concatenation", "StridedSlice")}
    assert (
        cut == {"vit": {"Concatenation": 1, "StridedSlice": 2}, "swin": {"Concatenation": 0, "StridedSlice": 0}}[family]
    )
    linears = [layer for layer in layers if layer["layerType"] == "FullyConnected"]
    assert len(linears) == LINEARS[family]
    assert {layer["runtimePrecision"] for layer in linears} <= {"i8", "u8"}
    attentions = [layer for layer in layers if layer["layerType"] == "Subgraph" and layer["runtimePrecision"] == "i8"]
    assert len(attentions) == ATTENTIONS[family]


def test_int8_graph_moves_no_heads_by_transposes(case: tuple[str, Graph], tmp_path: Path) -> None:
    _, graph = case
    moved = Counter(layer["layerType"] for layer in list_executed(compile_graph(graph, tmp_path)))
    transposes = [n for n in graph.model.graph if n.op_type == "Transpose"]
    products = {"MatMul", "Transpose"}
    assert all(use.node.op_type in products | {"QuantizeLinear"} for n in transposes for use in n.outputs[0].uses())
    assert moved["Gather"] > 0


def test_int8_engine_equals_the_graph(case: tuple[str, Graph], tmp_path: Path) -> None:
    family, graph = case
    images: Images = make_pixels(family, 3, seed=1)
    request = compile_graph(graph, tmp_path).create_infer_request()
    found = np.concatenate([next(iter(request.infer({0: image}).values())).copy() for image in images])
    expected = run_graph(graph, images)[0]
    # Kernels round codes at ties in their own way: far closer to the graph in ONNX Runtime than to the float model.
    assert abs(found - expected).max() < 0.02 * abs(expected).max()
