"""Queries and keys that are turned by constants, and what looks like it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevit.graph.graph import Graph, constant_of, operand, producer_of
from edgevit.graph.passes.fold_static_shapes import fold_static_shapes
from edgevit.graph.patterns.turned import find_turned
from edgevit.models.rotary import make_rotation_table
from tests.support.small_graphs import CONFIGS, find_node, make_graph


@pytest.fixture
def graph() -> Graph:
    graph = make_graph("rotary")
    fold_static_shapes(graph)  # as every foreign graph is prepared
    return graph


def read_keys(graph: Graph) -> ir.Value:
    """Before their transpose."""
    return operand(producer_of(operand(find_node(graph, "blocks.0.attn/scores"), 1)))


def test_tables_of_turned_keys_are_those_of_the_model(graph: Graph) -> None:
    found = find_turned(read_keys(graph))
    assert found is not None
    config = CONFIGS["rotary"]
    cos, sin = make_rotation_table(config.grid, config.rotary_periods, config.prefix_tokens)[:, 0].double().numpy()
    width = cos.shape[1]
    np.testing.assert_array_equal(found.partner, np.roll(np.arange(width), width // 2))
    np.testing.assert_allclose(found.cos, cos, atol=1e-6)
    np.testing.assert_allclose(found.sin, sin * np.repeat([-1, 1], width // 2), atol=1e-6)
    assert found.equals(found)


def test_keys_of_a_model_with_other_positions_are_not_turned() -> None:
    assert find_turned(read_keys(make_graph("vit"))) is None


@pytest.mark.parametrize("change", ["heads", "shift", "another"])
def test_what_looks_like_it_is_not_taken_for_it(graph: Graph, change: str) -> None:
    keys = read_keys(graph)
    add = producer_of(keys)
    assert add is not None
    product = producer_of(add.inputs[0])
    assert product is not None
    place = next(at for at, value in enumerate(product.inputs) if constant_of(value) is not None)
    table = constant_of(product.inputs[place])
    assert table is not None
    if change == "another":  # two values that are not the same
        slices = [use.node for use in operand(product, 1 - place).uses() if use.node.op_type == "Slice"]
        slices[0].replace_input_with(0, operand(find_node(graph, "blocks.0.attn/scores")))
    else:
        heads = np.repeat(table[None], 4, axis=0).reshape(1, 4, *table.shape[-2:])
        heads[:, 1] *= 0.5
        constant = ir.Value(name="other", const_value=ir.tensor(heads.astype(np.float32)))
        if change == "heads":
            graph.model.graph.register_initializer(constant)
            product.replace_input_with(place, constant)
        else:
            product.op_type = "Sub"
    assert find_turned(keys) is None
