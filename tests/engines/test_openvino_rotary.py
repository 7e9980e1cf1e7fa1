"""What OpenVINO makes of rotary positions: a kernel for queries and one for keys, and attention in one piece."""

from __future__ import annotations

import dataclasses
import platform
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

from edgevit.core.quantization import Quantization
from edgevit.core.target import ExportForm
from edgevit.graph.graph import Graph
from tests.support.quantized import quantize_all
from tests.support.small_graphs import make_graph, make_pixels, run_graph

FORM = ExportForm(fold_last_block=False)
BLOCKS = 2

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="kernels of x86-64")


def compile_graph(graph: Graph, folder: Path) -> openvino.CompiledModel:
    graph.save(folder / "graph.onnx")
    return openvino.Core().compile_model(folder / "graph.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def list_layers(compiled: openvino.CompiledModel) -> list[tuple[str, str, str]]:
    """Kind, type and the nodes behind it of every layer."""
    keys = ("layerType", "runtimePrecision", "originalLayersNames")
    infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    return [tuple(info[key].astype(str) for key in keys) for info in infos]


def count_attentions(layers: list[tuple[str, str, str]], kind: str) -> int:
    whole = ("attn/scores", "attn/softmax", "attn/context")
    return sum(layer == "Subgraph" and of == kind and all(n in names for n in whole) for layer, of, names in layers)


def infer(compiled: openvino.CompiledModel, images: Any) -> np.ndarray:
    request = compiled.create_infer_request()
    return np.concatenate([next(iter(request.infer({0: image}).values())).copy() for image in images])


@pytest.mark.parametrize("qkv", ["separate", "packed"])
@pytest.mark.parametrize("family", ["rotary", "eva", "eva_clip", "perception_encoder"])
def test_float_rotation_is_one_kernel_and_attention_another(family: str, qkv: Any, tmp_path: Path):
    graph = make_graph(family, dataclasses.replace(FORM, qkv=qkv))
    compiled = compile_graph(graph, tmp_path)
    layers = list_layers(compiled)
    counts = Counter(kind for kind, *_ in layers)
    assert counts["RoPE"] == 2 * BLOCKS
    assert count_attentions(layers, "f32") == BLOCKS
    pools = family == "perception_encoder"  # its pool's attention has one query, and a Softmax of its own
    assert (counts["MatMul"], counts["Softmax"]) == ((1, 1) if pools else (0, 0))
    images = make_pixels(family, 3)
    expected = run_graph(graph, images)[0]
    np.testing.assert_allclose(infer(compiled, images), expected, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("family", ["rotary", "eva", "eva_clip", "perception_encoder"])
def test_int8_rotation_stays_float_and_attention_is_int8_in_one_piece(family: str, tmp_path: Path):
    recipe = Quantization(products="both", sqnr_db=-20, observer="minmax", rounding="nearest")
    form = dataclasses.replace(FORM, fold_residual_rotation=True)
    graph = quantize_all(make_graph(family, form), make_pixels(family, 4), recipe, "openvino")
    compiled = compile_graph(graph, tmp_path)
    layers = list_layers(compiled)
    assert Counter(kind for kind, *_ in layers)["RoPE"] == 2 * BLOCKS
    assert count_attentions(layers, "i8") == BLOCKS
    images = make_pixels(family, 3, seed=1)
    expected = run_graph(graph, images)[0]
    assert abs(infer(compiled, images) - expected).max() < 0.03 * abs(expected).max()
