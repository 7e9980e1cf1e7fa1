"""A convolution of an enlarged map is quantised as products that resize, where an engine library runs those in INT8."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgevit.core.quantization import Quantization
from edgevit.graph.graph import Graph
from edgevit.graph.linears import trace_layout
from edgevit.quantize.plan import apply_plan
from tests.support.quantized import fit_sites
from tests.support.small_graphs import run_graph
from tests.support.small_models import VIT, make_images
from tests.support.whole_graphs import make_enlarging_graph

IMAGES = [image[None] for image in make_images(VIT, 4).numpy()]
SPLIT = ("head/mixed/level0", "head/mixed/level0.rows.resized", "head/mixed/level0.columns.resized")
NEAREST = Quantization(rounding="nearest")


@pytest.fixture
def graph() -> Graph:
    return make_enlarging_graph()


def test_products_that_resize_are_sites_with_both_operands_on_symmetric_grids(graph: Graph) -> None:
    base, plan, record = fit_sites(graph, IMAGES, NEAREST, "openvino")
    assert set(SPLIT) <= set(plan.sites)
    assert {site.name: site.precision for site in record.sites if site.name in SPLIT} == dict.fromkeys(SPLIT, "int8")
    assert "head/projected" not in {site.name for site in base.sites()}
    for name in SPLIT[1:]:
        assert [(grid.low_code, grid.zero_point) for grid in plan.sites[name].grids] == [(-128, 0)] * 2
    assert plan.sites[SPLIT[1]].grids[0].scale == pytest.approx(1 / 127, rel=0.3)  # no weight of a mean is above 1
    wanted, found = (run_graph(g, IMAGES, ["mask"])[0] for g in (graph, base))
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_quantised_products_keep_the_answer(graph: Graph) -> None:
    base, plan, _ = fit_sites(graph, IMAGES, NEAREST, "openvino")
    quantized = apply_plan(base, plan, SPLIT)
    whole = fit_sites(graph, IMAGES, dataclasses.replace(NEAREST, products="float"), "openvino")
    rival = apply_plan(*whole[:2], ["head/projected", "head/mixed"])
    wanted, found, others = (run_graph(g, IMAGES, ["mask"])[0] for g in (graph, quantized, rival))
    noise, before = (np.square(values - wanted).sum() / np.square(wanted).sum() for values in (found, others))
    assert noise < 1e-3
    assert noise < 2 * before  # that of the convolutions as they were
    products = [node for node in quantized.model.graph if node.name in SPLIT[1:]]
    sources = [trace_layout(value).producer() for node in products for value in node.inputs if value is not None]
    assert [node.op_type for node in sources if node is not None] == ["DequantizeLinear"] * 4
    # Bytes change places, not floats: the pair stands right behind the convolution.
    conv = next(node for node in quantized.model.graph if node.name == SPLIT[0])
    assert [use.node.op_type for use in conv.outputs[0].uses()] == ["QuantizeLinear"]


@pytest.mark.parametrize(
    ("library", "settings"),
    [
        ("onnxruntime", NEAREST),
        ("openvino", Quantization(rounding="nearest", products="float")),
        ("openvino", Quantization(rounding="nearest", sites={"head/mixed": "float"})),
        ("openvino", Quantization(rounding="nearest", sites={"head/*": "int8"})),
    ],
    ids=["another library", "products in float", "pinned to float", "pinned to int8"],
)
def test_elsewhere_the_convolution_stays(graph: Graph, library: str, settings: Quantization) -> None:
    base, _, _ = fit_sites(graph, IMAGES, settings, library)
    assert [site.name for site in base.sites()] == [site.name for site in graph.sites()]


def test_multiplications_of_a_product_with_a_constant_are_those_of_all_that_it_multiplies(graph: Graph) -> None:
    base, _, _ = fit_sites(graph, IMAGES, NEAREST, "openvino")
    macs = {site.name: site.macs for site in base.sites()}
    assert [macs[name] for name in SPLIT] == [4 * 6 * 32 * 9 * 16, 16 * 12 * 6 * 3 * 16, 16 * 24 * 18 * 16]
