"""Centred keys and values: the same outputs, and means of zero."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.graph.graph import Graph
from edgevit.graph.linears import read_weight
from edgevit.quantize.methods.attention_centring import center_attention, find_attention
from tests.support.small_graphs import find_node, make_graph, make_pixels, run_graph

BLOCKS = {"vit": ["blocks.0", "blocks.1"], "swin": ["layers.0.blocks.0", "layers.0.blocks.1", "layers.1.blocks.0"]}


@pytest.fixture(scope="module", params=["vit", "swin"])
def case(request: pytest.FixtureRequest) -> tuple[str, Graph]:
    return request.param, make_graph(request.param)


def test_find_attention_gives_the_linears_of_keys_values_and_output(case: tuple[str, Graph]) -> None:
    family, graph = case
    for block in BLOCKS[family]:
        found = find_attention(find_node(graph, f"{block}.attn/context"))
        assert found is not None
        assert [node.name for node in (found.keys, found.values, found.output)] == [
            f"{block}.attn.{part}" for part in ("k", "v", "proj")
        ]


def test_center_attention_changes_no_output_and_makes_the_means_zero(case: tuple[str, Graph]) -> None:
    family, graph = case
    images = make_pixels(family, 4)
    logits = run_graph(graph, images)[0]
    centred = graph.copy()
    for block in BLOCKS[family]:
        found = find_attention(find_node(centred, f"{block}.attn/context"))
        assert found is not None
        outputs = (f"{block}.attn.k/bias", f"{block}.attn.v/bias")
        means = [v.reshape(-1, v.shape[-1]).mean(0) for v in run_graph(centred, images, outputs)]
        assert min(abs(mean).max() for mean in means) > 0.05
        center_attention(found, *means)
        for values in run_graph(centred, images, outputs):
            assert abs(values.reshape(-1, values.shape[-1]).mean(0)).max() < 1e-5
    np.testing.assert_allclose(run_graph(centred, images)[0], logits, atol=1e-5 * abs(logits).max())
    # The graph that was copied has its own biases still.
    np.testing.assert_array_equal(run_graph(graph, images)[0], logits)


def test_center_attention_of_unseen_images_changes_no_output(case: tuple[str, Graph]) -> None:
    family, graph = case
    block = BLOCKS[family][0]
    found = find_attention(find_node(centred := graph.copy(), f"{block}.attn/context"))
    assert found is not None
    # Any constant goes through, whether or not it is a mean.
    weight = read_weight(found.keys)
    assert weight is not None
    rng = np.random.default_rng(0)
    center_attention(found, *(rng.standard_normal((weight.shape[1],)).astype(np.float32) for _ in range(2)))
    images = make_pixels(family, 2, seed=8)
    logits = run_graph(graph, images)[0]
    np.testing.assert_allclose(run_graph(centred, images)[0], logits, atol=1e-4 * abs(logits).max())


@pytest.mark.parametrize("block", ["blocks.0", "blocks.1"])
def test_center_attention_of_rotated_keys_moves_only_the_values(block: str) -> None:
    graph, images = make_graph("rotary"), make_pixels("rotary", 4)
    logits = run_graph(graph, images)[0]
    found = find_attention(find_node(graph, f"{block}.attn/context"))
    assert found is not None
    assert found.rotation is not None
    outputs = (f"{block}.attn.k/bias", f"{block}.attn.v/bias")
    keys, values = run_graph(graph, images, outputs)
    center_attention(found, *(v.reshape(-1, v.shape[-1]).mean(0) for v in (keys, values)))
    after, centred = run_graph(graph, images, outputs)
    np.testing.assert_array_equal(after, keys)
    assert abs(centred.reshape(-1, centred.shape[-1]).mean(0)).max() < 1e-5
    np.testing.assert_allclose(run_graph(graph, images)[0], logits, atol=1e-5 * abs(logits).max())


def test_find_attention_when_the_output_has_another_reader_gives_none() -> None:
    graph = make_graph("vit")
    context = find_node(graph, "blocks.0.attn/context")
    add = find_node(graph, "blocks.0/add")
    add.replace_input_with(1, context.outputs[0])  # shapes aside: the values' mean would leak into it
    assert find_attention(context) is None


def test_find_attention_without_softmax_gives_none() -> None:
    graph = make_graph("vit")
    context = find_node(graph, "blocks.0.attn/context")
    find_node(graph, "blocks.0.attn/softmax").op_type = "Relu"
    assert find_attention(context) is None
