"""Weights as TensorRT 8.6 takes them: float constants that a QuantizeLinear makes the same codes of."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.core.quantization import Quantization
from edgevit.core.target import load_target
from edgevit.engines.tensorrt.backend import type_for_compiler
from edgevit.engines.tensorrt.float_weights import restate_weights
from edgevit.graph.graph import Graph
from edgevit.graph.opset import restate_opset
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.models.export import export_model
from tests.support.quantized import quantize_all
from tests.support.small_graphs import CONFIGS, make_pixels, run_graph
from tests.support.small_models import make_model

OLD = load_target("jetson-jetpack-6.0")


@pytest.fixture(scope="module", params=["vit", "swin"])
def quantized(request: pytest.FixtureRequest) -> tuple[str, Graph]:
    form = dataclasses.replace(OLD.export, fold_residual_rotation=True)
    graph = optimize_graph(export_model(make_model(CONFIGS[request.param]), form, opset=OLD.opset)[0])[0]
    restate_opset(graph, OLD.opset)
    quantization = Quantization(float_share=0.0, rounding="nearest")
    return request.param, quantize_all(graph, make_pixels(request.param, 2), quantization, "tensorrt")


def list_int8_weights(graph: Graph) -> list[str]:
    return [
        node.name or ""
        for node in graph.model.graph
        if node.op_type == "DequantizeLinear"
        and node.inputs[0] is not None
        and node.inputs[0].is_initializer()
        and node.inputs[0].dtype == ir.DataType.INT8
    ]


def test_answers_are_the_same_bit_by_bit(quantized: tuple[str, Graph]) -> None:
    family, graph = quantized
    before, restated = list_int8_weights(graph), graph.copy()
    assert sum("attn.qkv" in name for name in before) == {"vit": 2, "swin": 3}[family], "of every block"
    assert restate_weights(restated) == len(before)
    assert list_int8_weights(restated) == []
    stored = restated.model.graph.initializers.values()
    assert all(value.dtype != ir.DataType.INT8 or value.shape.rank() <= 1 for value in stored)
    images = make_pixels(family, 2, seed=1)
    np.testing.assert_array_equal(run_graph(restated, images)[0], run_graph(graph, images)[0])


def test_compiler_before_10_gets_float_weights_and_a_later_one_int8(quantized: tuple[str, Graph]) -> None:
    graph = quantized[1]
    old = type_for_compiler(graph, OLD, "int8", Path("graph.onnx"))
    assert list_int8_weights(old) == []
    quantizers = [n for n in old.model.graph if n.op_type == "QuantizeLinear" and n.inputs[0].is_initializer()]
    assert len(quantizers) == len(list_int8_weights(graph))
    later = type_for_compiler(raise_opset(graph), load_target("jetson"), "int8", Path("graph.onnx"))
    assert len(list_int8_weights(later)) == len(quantizers)


def raise_opset(graph: Graph) -> Graph:
    raised = graph.copy()
    restate_opset(raised, 19)
    return raised


@given(
    codes=st.lists(st.integers(-127, 127), min_size=1, max_size=64),
    scale=st.floats(2.0**-60, 2.0**60, width=32, allow_subnormal=False),
)
def test_codes_survive_any_scale(codes: list[int], scale: float) -> None:
    numbers, factor = np.array(codes, np.float32), np.float32(scale)
    np.testing.assert_array_equal(np.rint(numbers * factor / factor), numbers)
