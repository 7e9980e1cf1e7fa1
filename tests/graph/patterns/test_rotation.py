"""Rotary positions found in a graph, and what looks like them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevit.graph.graph import Graph, operand
from edgevit.graph.patterns.rotation import find_rotation
from tests.support.small_graphs import find_node, make_graph, make_pixels, run_graph


@pytest.fixture
def graph() -> Graph:
    return make_graph("rotary")


def read_keys(graph: Graph) -> ir.Value:
    return operand(find_node(graph, "blocks.0.attn/scores"), 1)


def test_rotation_of_keys_is_found_behind_their_transpose(graph: Graph):
    found = find_rotation(read_keys(graph))
    assert found is not None
    assert found.width == 8
    assert found.source.shape is not None
    keys, heads = run_graph(graph, make_pixels("rotary", 1), ["blocks.0.attn.k/bias", found.source.name or ""])
    np.testing.assert_array_equal(heads.transpose(0, 2, 1, 3).reshape(keys.shape), keys)


def test_queries_of_the_class_token_are_not_turned(graph: Graph):
    assert find_rotation(operand(find_node(graph, "blocks.1.attn/scores"))) is None
    assert find_rotation(operand(find_node(graph, "blocks.1.attn/scores"), 1)) is not None


def test_keys_of_a_model_with_other_positions_are_not_turned():
    assert find_rotation(read_keys(make_graph("vit"))) is None


@pytest.mark.parametrize("change", ["sign", "order", "another"])
def test_what_looks_like_a_rotation_is_none(graph: Graph, change: str):
    source = find_rotation(read_keys(graph))
    assert source is not None
    slices = [use.node for use in source.source.uses() if use.node.op_type == "Slice"]
    negated = next(use.node for node in slices for use in node.outputs[0].uses() if use.node.op_type == "Neg")
    joined = next(iter(negated.outputs[0].uses())).node
    if change == "sign":
        negated.op_type = "Abs"
    elif change == "order":
        first, second = joined.inputs
        joined.replace_input_with(0, second)
        joined.replace_input_with(1, first)
    else:
        slices[0].replace_input_with(0, find_node(graph, "blocks.0.attn.q/bias").outputs[0])
    assert find_rotation(read_keys(graph)) is None
