"""Channels of queries, keys and values brought to like ranges: the same outputs, and what a grid then keeps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgevit.quantize.methods.attention_centring import find_attention
from edgevit.quantize.methods.channel_equalization import (
    balance_factors,
    equalize_products,
    equalize_values,
    find_queries,
)
from tests.support.small_graphs import find_node, make_graph, make_pixels, run_graph

BLOCK = {"vit": "blocks.1", "swin": "layers.0.blocks.1"}
TURNED = {"rotary_first": "blocks.0", "rotary_last": "blocks.1"}  # the last block's queries are not turned


@pytest.mark.parametrize("family", BLOCK)
def test_equalize_products_keeps_the_output_and_makes_the_ranges_equal(family: str) -> None:
    graph, block, images = make_graph(family), BLOCK[family], make_pixels(family, 4)
    logits = run_graph(graph, images)[0]
    attention = find_attention(find_node(graph, f"{block}.attn/context"))
    assert attention is not None
    queries = find_queries(attention)
    assert queries is not None
    assert queries.name == f"{block}.attn.q"
    outputs = (f"{block}.attn.q/bias", f"{block}.attn.k/bias")

    def read_ranges() -> list[np.ndarray]:
        return [np.abs(v).reshape(-1, v.shape[-1]).max(axis=0) for v in run_graph(graph, images, outputs)]

    before = read_ranges()
    equalize_products(queries, attention.keys, balance_factors(*before))
    after = read_ranges()
    np.testing.assert_allclose(after[0], after[1], rtol=1e-4)
    np.testing.assert_allclose(after[0], np.sqrt(before[0] * before[1]), rtol=1e-4)
    np.testing.assert_allclose(run_graph(graph, images)[0], logits, atol=2e-5 * abs(logits).max())


@pytest.mark.parametrize("block", TURNED.values(), ids=TURNED)
def test_equalize_products_of_rotated_keys_keeps_the_output_with_a_factor_for_each_pair(block: str) -> None:
    graph, images = make_graph("rotary"), make_pixels("rotary", 4)
    logits = run_graph(graph, images)[0]
    attention = find_attention(find_node(graph, f"{block}.attn/context"))
    assert attention is not None
    assert attention.rotation is not None
    assert attention.rotation.width == 8
    queries = find_queries(attention)
    assert queries is not None
    assert queries.name == f"{block}.attn.q"
    ranges = [np.exp(np.random.default_rng(seed).normal(size=32)).astype(np.float32) for seed in (0, 1)]
    factors = balance_factors(*ranges, rotation=attention.rotation)
    pairs = factors.reshape(4, 2, 4)
    np.testing.assert_array_equal(pairs[:, 0], pairs[:, 1])
    largest = [values.reshape(4, 2, 4).max(axis=1) for values in ranges]
    np.testing.assert_allclose(pairs[:, 0], np.sqrt(largest[1] / largest[0]), rtol=1e-5)
    equalize_products(queries, attention.keys, factors)
    np.testing.assert_allclose(run_graph(graph, images)[0], logits, atol=2e-5 * abs(logits).max())


@pytest.mark.parametrize("family", BLOCK)
def test_equalize_values_keeps_the_output_and_scales_what_the_projection_reads(family: str) -> None:
    graph, block, images = make_graph(family), BLOCK[family], make_pixels(family, 4)
    attention = find_attention(find_node(graph, f"{block}.attn/context"))
    assert attention is not None
    tap = attention.output.inputs[0].name
    logits, before = run_graph(graph, images)[0], run_graph(graph, images, [tap])[0]
    factors = np.exp(np.random.default_rng(0).normal(size=before.shape[-1])).astype(np.float32)
    equalize_values(attention, factors)
    after = run_graph(graph, images, [tap])[0]
    np.testing.assert_allclose(after, before * factors, rtol=1e-4, atol=1e-5 * abs(after).max())
    np.testing.assert_allclose(run_graph(graph, images)[0], logits, atol=2e-5 * abs(logits).max())


def test_find_queries_behind_another_op_gives_none() -> None:
    graph = make_graph("vit")
    attention = find_attention(find_node(graph, "blocks.0.attn/context"))
    assert attention is not None
    find_node(graph, "blocks.0.attn.q/bias").op_type = "Mul"
    assert find_queries(attention) is None


_RANGES = hnp.arrays(np.float32, 5, elements=st.floats(0, 1000, width=32))


@given(queries=_RANGES, keys=_RANGES)
def test_balance_factors_of_silent_channels_are_finite_and_bounded(queries: np.ndarray, keys: np.ndarray) -> None:
    factors = balance_factors(queries, keys)
    assert np.isfinite(factors).all()
    assert (factors > 0).all()
    # Channels differ by no more than both operands' floors allow.
    assert factors.max() / factors.min() <= 32 * 1.001


def test_balance_factors_when_a_grid_quantises_the_operands_lowers_the_error_of_their_product() -> None:
    rng = np.random.default_rng(0)
    spread = np.exp(rng.normal(size=16)).astype(np.float32)
    queries, keys = (rng.normal(size=(200, 16)).astype(np.float32) * s for s in (spread, 1 / spread))
    factors = balance_factors(np.abs(queries).max(axis=0), np.abs(keys).max(axis=0))

    def measure_error(q: np.ndarray, k: np.ndarray) -> float:
        grids = [np.abs(v).max() / 127 for v in (q, k)]
        rounded = [np.rint(v / step) * step for v, step in zip((q, k), grids, strict=True)]
        return float(np.square(rounded[0] @ rounded[1].T - q @ k.T).mean())

    assert measure_error(queries * factors, keys / factors) < 0.5 * measure_error(queries, keys)
