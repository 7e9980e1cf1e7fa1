"""Where Q/DQ pairs stand, and that they compute what a simulation in numpy does."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest

from edgevit.core.quantization import Quantization
from edgevit.graph.graph import Graph, constant_of
from edgevit.graph.linears import read_weight, trace_layout
from edgevit.graph.segments import SegmentRunner, extract_nodes
from edgevit.quantize.plan import Affine, QuantizationPlan, SitePlan, apply_plan
from tests.support.quantized import fit_sites
from tests.support.small_graphs import find_node, make_graph, make_pixels, run_graph

Planned = tuple[Graph, QuantizationPlan]
FC1 = "blocks.0.mlp.fc1"


@pytest.fixture(scope="module")
def planned() -> Planned:
    quantization = Quantization(products="both", smooth=True)
    return fit_sites(make_graph("vit"), make_pixels("vit"), quantization, "openvino")[:2]


@pytest.fixture(scope="module")
def quantized(planned: Planned) -> Graph:
    return apply_plan(*planned)


def list_inputs(graph: Graph, name: str) -> list[str]:
    """Op types that compute a node's inputs; of constants nothing."""
    producers = [v.producer() for v in find_node(graph, name).inputs if v is not None]
    return [p.op_type for p in producers if p is not None]


def list_quantizers(graph: Graph) -> dict[str, ir.Node]:
    """QuantizeLinear nodes by the value that they read."""
    nodes = [node for node in graph.model.graph if node.op_type == "QuantizeLinear"]
    found = {node.inputs[0].name or "": node for node in nodes if node.inputs[0] is not None}
    assert len(found) == len(nodes), "two pairs behind one value"
    return found


def test_apply_plan_with_no_sites_changes_nothing(planned: Planned) -> None:
    base, plan = planned
    same = apply_plan(base, plan, [])
    assert same.op_counts() == base.op_counts()
    images = make_pixels("vit", 2, seed=3)
    np.testing.assert_array_equal(run_graph(same, images)[0], run_graph(base, images)[0])


def test_apply_plan_leaves_its_graph_alone(planned: Planned) -> None:
    base, plan = planned
    before, names = base.op_counts(), sorted(base.model.graph.initializers)
    apply_plan(base, plan)
    assert base.op_counts() == before
    assert sorted(base.model.graph.initializers) == names


def test_apply_plan_with_all_sites_is_valid_onnx_that_stays_close(planned: Planned, quantized: Graph) -> None:
    onnx.checker.check_model(ir.serde.serialize_model(quantized.model), full_check=True)
    images = make_pixels("vit", 4)  # of those that it was fitted on: this is about apply_plan
    wanted, found = run_graph(planned[0], images)[0], run_graph(quantized, images)[0]
    assert 0 < np.square(found - wanted).mean() < 1e-3 * np.square(wanted).mean()


def test_apply_plan_with_all_sites_has_one_pair_for_each_tensor(planned: Planned, quantized: Graph) -> None:
    blocks, products = 2, ("q", "k", "v")
    wanted = {"norm"}  # the head's
    for block in range(blocks):
        at = f"blocks.{block}"
        wanted |= {f"{at}.norm1", f"{at}.norm2"}
        # The last block has one query, whose row needs no gain of its own.
        product = ("softmax", "context") if block == blocks - 1 else ("context/gain", "context/inverse_gain")
        wanted |= {f"{at}.attn/{name}" for name in product}
        wanted |= {f"{at}.attn.{p}/bias" for p in products}
    quantizers = list_quantizers(quantized)
    # In front of the second Linear of an MLP there may be SmoothQuant's multiplication.
    smoothed = {name for name in quantizers if name.endswith(("gelu", "fc2/factor"))}
    assert len(smoothed) == blocks
    assert set(quantizers) - smoothed == wanted
    linears = sum(site.weight is not None for site in planned[1].sites.values())
    assert linears == 1 + 6 * blocks + 1
    counts = quantized.op_counts()
    # Each Linear's weight and the image have a DequantizeLinear of their own.
    assert counts["DequantizeLinear"] == counts["QuantizeLinear"] + linears + 1


def test_apply_plan_shares_one_pair_among_queries_keys_and_values(quantized: Graph) -> None:
    for block in range(2):
        sources = [trace_layout(find_node(quantized, f"blocks.{block}.attn.{p}").inputs[0]) for p in "qkv"]
        assert len(set(sources)) == 1
        producer = sources[0].producer()
        assert producer is not None
        assert producer.op_type == "DequantizeLinear"


def test_apply_plan_at_producer_puts_the_pair_in_front_of_layout_ops(quantized: Graph) -> None:
    attention_output = find_node(quantized, "blocks.0.attn/transpose.5")
    assert list_inputs(quantized, "blocks.0.attn/transpose.5") == ["DequantizeLinear"]
    assert list_quantizers(quantized)["blocks.0.attn/context/inverse_gain"].op_type == "QuantizeLinear"
    assert next(iter(attention_output.outputs[0].uses())).node.op_type == "Reshape"


def test_apply_plan_leaves_residuals_norms_and_softmax_float(quantized: Graph) -> None:
    for node in quantized.model.graph:
        producers = [v.producer() for v in node.inputs if v is not None]
        kinds = {p.op_type for p in producers if p is not None}
        if node.op_type in ("LayerNormalization", "Softmax", "Add", "Gelu", "Concat"):
            assert "DequantizeLinear" not in kinds, node.name
        if node.op_type in ("MatMul", "Gemm"):
            assert all(p is not None for p in producers[:2]), node.name


def test_apply_plan_reads_the_image_as_bytes_with_scale_one(quantized: Graph) -> None:
    assert "Cast" not in quantized.op_counts()
    value = find_node(quantized, "patch_embed.proj").inputs[0]
    assert value is not None
    dequantize = value.producer()
    assert dequantize is not None
    assert dequantize.op_type == "DequantizeLinear"
    codes, scale, zero = dequantize.inputs
    assert constant_of(scale) == 1.0
    numbers = constant_of(zero)
    assert numbers is not None
    assert (numbers.dtype, int(numbers)) == (np.uint8, 0)
    assert codes is not None
    assert trace_layout(codes).name == "image"


def test_apply_plan_stores_weights_as_int8_per_output_channel(planned: Planned, quantized: Graph) -> None:
    base, plan = planned
    for name, site in plan.sites.items():
        if site.weight is None:
            continue
        node = find_node(quantized, name)
        assert node.inputs[1] is not None
        dequantize = node.inputs[1].producer()
        assert dequantize is not None
        codes, scale, zero = (constant_of(v) for v in dequantize.inputs)
        assert codes is not None
        assert scale is not None
        assert zero is not None
        axis = dequantize.attributes["axis"].as_int()
        assert codes.dtype == zero.dtype == np.int8
        assert not zero.any()
        assert scale.shape == (codes.shape[axis],)
        assert abs(codes.astype(int)).max() <= 127
        # Gemm stores (N, K); what the engine multiplies with is near the float weight.
        wanted = read_weight(find_node(base, name))
        assert wanted is not None
        found = np.multiply(codes, np.expand_dims(scale, 1 - axis), dtype=np.float32)
        found = found.T if axis == 0 else found
        if site.affine is None:
            assert abs(found - wanted).max() < 0.1 * abs(wanted).max()
        assert name not in quantized.model.graph.initializers


def test_apply_plan_with_one_of_three_readers_float_moves_the_pair_to_the_others(planned: Planned) -> None:
    base, plan = planned
    graph = apply_plan(base, plan, [name for name in plan.sites if name != "blocks.0.attn.k"])
    onnx.checker.check_model(ir.serde.serialize_model(graph.model), full_check=True)
    key = find_node(graph, "blocks.0.attn.k")
    assert key.inputs[0] is not None
    assert key.inputs[0].name == "blocks.0.norm1"
    assert key.inputs[1] is not None
    assert key.inputs[1].const_value is not None
    for name in ("q", "v"):
        assert list_inputs(graph, f"blocks.0.attn.{name}") == ["DequantizeLinear"] * 2
    # The other block is as before.
    assert list_quantizers(graph)["blocks.1.norm1"]


def test_apply_plan_with_a_product_float_keeps_the_other_pairs(planned: Planned) -> None:
    base, plan = planned
    graph = apply_plan(base, plan, [name for name in plan.sites if name != "blocks.0.attn/context"])
    quantizers = list_quantizers(graph)
    assert "blocks.0.attn/softmax" not in quantizers
    assert "blocks.0.attn.v/bias" not in quantizers
    assert "blocks.0.attn/context" in quantizers  # which is what the output Linear reads


def test_apply_plan_of_a_single_linear_equals_numpy(planned: Planned) -> None:
    base, plan = planned
    site = plan.sites[FC1]
    assert site.weight is not None
    assert site.scale is not None
    assert site.bias is not None
    graph = apply_plan(base, plan, [FC1])
    value, found = run_graph(graph, make_pixels("vit", 2, seed=9), ("blocks.0.norm2", f"{FC1}/bias"))
    grid = site.grids[0]
    codes = np.clip(np.rint(value / np.float32(grid.scale)) + grid.zero_point, 0, 255).astype(np.int64)
    sums = (codes - grid.zero_point) @ site.weight.astype(np.int64)
    wanted = sums * grid.scale * site.scale.astype(np.float64) + site.bias
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_apply_plan_with_an_affine_centres_and_scales_in_front_of_the_quantiser(planned: Planned) -> None:
    base, plan = planned
    name = "blocks.0.mlp.fc2"
    site = dataclasses.replace(plan.sites[name], affine=None)
    rng = np.random.default_rng(0)
    factor = rng.uniform(0.5, 2, 64).astype(np.float32)
    center = rng.uniform(-0.2, 0.2, 64).astype(np.float32)
    moved = QuantizationPlan({name: dataclasses.replace(site, affine=Affine(center, factor))})
    graph = apply_plan(base, moved)
    outputs = ("blocks.0.mlp/gelu", f"{name}/factor", f"{name}/factor/dequantized")
    value, scaled, coarse = run_graph(graph, make_pixels("vit", 1), outputs)
    np.testing.assert_allclose(scaled, (value - center) * factor, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(coarse, site.grids[0].apply(scaled))


def test_apply_plan_at_consumer_puts_pairs_at_the_products_inputs(planned: Planned) -> None:
    base, plan = planned
    graph = apply_plan(base, QuantizationPlan(dict(plan.sites), at="consumer"))
    assert list_inputs(graph, "blocks.0.attn/scores") == ["DequantizeLinear", "DequantizeLinear"]
    assert list_inputs(graph, "blocks.0.attn/transpose.5") == ["Mul"]  # the gain, divided out
    images = make_pixels("vit", 2)
    # Bytes moved or numbers moved: the same numbers are multiplied.
    np.testing.assert_allclose(
        run_graph(graph, images)[0], run_graph(apply_plan(base, plan), images)[0], rtol=1e-4, atol=1e-4
    )


def test_apply_plan_leaves_out_sites_that_are_not_in_the_graph(planned: Planned) -> None:
    base, plan = planned
    site = SitePlan(("x",), plan.sites[FC1].grids)
    same = apply_plan(base, QuantizationPlan({"elsewhere": site}))
    assert same.op_counts() == base.op_counts()


def test_trace_layout_goes_back_to_what_was_computed(planned: Planned) -> None:
    base, _ = planned
    traced: list[str | None] = []
    for name in ("blocks.0.attn/scores", "blocks.0.attn/context", "blocks.1.attn.q", "head"):
        traced += [trace_layout(v).name for v in find_node(base, name).inputs if v is not None and not v.const_value]
    attention = ["blocks.0.attn.q/bias", "blocks.0.attn.k/bias", "blocks.0.attn/softmax", "blocks.0.attn.v/bias"]
    assert traced == [*attention, "blocks.1.norm1", "norm"]


def test_read_weight_of_a_gemm_is_input_by_output(planned: Planned) -> None:
    base, _ = planned
    node = find_node(base, "head")
    weight = read_weight(node)
    stored: npt.NDArray[np.generic] | None = constant_of(node.inputs[1])
    assert weight is not None
    assert stored is not None
    assert (stored.shape, weight.shape) == ((7, 32), (32, 7))
    assert read_weight(find_node(base, "blocks.0.attn/scores")) is None


def test_apply_plan_with_an_affine_where_a_part_of_a_graph_begins(planned: Planned) -> None:
    base, plan = planned
    name = "blocks.0.mlp.fc2"
    node = find_node(base, name)
    source = node.inputs[0]
    assert source is not None
    width = plan.sites[name].weight.shape[0]
    affine = Affine(np.full(width, 0.25, np.float32), np.full(width, 2.0, np.float32))
    moved = QuantizationPlan({name: dataclasses.replace(plan.sites[name], affine=affine)})
    part = extract_nodes([node], [source], [node.outputs[0].name or ""])
    image = make_pixels("vit", 1)
    value, wanted = run_graph(apply_plan(base, moved), image, [source.name or "", node.outputs[0].name or ""])
    found = SegmentRunner(apply_plan(part, moved)).run(value)[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
