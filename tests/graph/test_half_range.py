"""Values beyond float16's range: planted, found, and computed in float32."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgevit.core.quantization import Quantization
from edgevit.core.target import ExportForm
from edgevit.engines.tensorrt.typed import type_graph
from edgevit.engines.tensorrt.typed_rules import find_violations
from edgevit.graph.graph import Graph
from edgevit.graph.half_range import LARGEST_HALF, MARK, is_wide, mark_wide
from edgevit.graph.linears import find_bias_value
from edgevit.quantize.plan import Affine, apply_plan
from tests.support.quantized import fit_sites, quantize_all
from tests.support.small_graphs import find_node, make_graph, make_pixels, run_graph

FAMILIES = {"vit": "blocks.0", "swin": "layers.0.blocks.0"}


def change(value: ir.Value, rewrite: Callable[[np.ndarray], np.ndarray]) -> None:
    value.const_value = ir.tensor(rewrite(value.const_value.numpy()).astype(np.float32), name=value.name)


def plant_massive_channel(graph: Graph, block: str) -> None:
    """One channel of the residual stream is 10⁵ from this block on, as in some DINOv2 and CLIP checkpoints."""

    def raise_one(bias: np.ndarray) -> np.ndarray:
        bias = bias.copy()
        bias[3] += 1e5
        return bias

    change(find_bias_value(find_node(graph, f"{block}.mlp.fc2")), raise_one)


def plant_large_scores(graph: Graph, block: str) -> None:
    """Queries that make attention's scores exceed the range."""
    node = find_node(graph, f"{block}.attn.q")
    change(node.inputs[1], lambda weight: weight * 3e4)
    change(find_bias_value(node), lambda bias: bias * 3e4)


def plant_large_weight(graph: Graph, block: str) -> None:
    """A weight that float16 does not hold, and one behind it that brings the result back."""
    change(find_node(graph, f"{block}.mlp.fc2").inputs[1], lambda weight: weight * np.float32(1e6))
    change(find_node(graph, f"{block}.attn.v").inputs[1], lambda weight: weight)


PLANTS = (plant_massive_channel, plant_large_scores, plant_large_weight)


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_planted_values_beyond_float16_still_give_the_float_answers(
    family: str, plant: Callable[[Graph, str], None], tmp_path: Path
) -> None:
    graph = make_graph(family)
    plant(graph, FAMILIES[family])
    images = make_pixels(family, 6)
    wanted = run_graph(graph, images)[0]
    marked = mark_wide(graph, images[:3])
    assert any(name.startswith(FAMILIES[family]) for name in marked)
    assert not any(name.startswith("patch_embed") for name in marked), "only what is concerned"
    graph.save(tmp_path / "marked.onnx")  # marks live in the file
    typed = type_graph(Graph.load(tmp_path / "marked.onnx"), "fp16")
    typed.save(tmp_path / "typed.onnx")
    onnx.checker.check_model(str(tmp_path / "typed.onnx"), full_check=True)
    assert find_violations(typed, "8.6") == ()
    found = run_graph(typed, images)[0]
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found.argmax(axis=1), wanted.argmax(axis=1))
    assert np.abs(found - wanted).max() < 2e-2 * np.abs(wanted).max()


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_whatever_is_float16_holds_what_the_float_graph_holds_there(
    family: str, plant: Callable[[Graph, str], None]
) -> None:
    """Judged by the float graph's own values: ONNX Runtime widens float16 on a CPU, so that nothing overflows there."""
    graph = make_graph(family)
    plant(graph, FAMILIES[family])
    images = make_pixels(family, 2)
    names = [v.name for node in graph.model.graph for v in node.outputs if v.name != "logits"]
    values = dict(zip(names, run_graph(graph, images, names), strict=True))
    assert max(float(np.abs(numbers).max()) for numbers in values.values()) > LARGEST_HALF

    def list_overflows(typed: Graph) -> list[str]:
        halves = [v.name for n in typed.model.graph for v in n.outputs if v.dtype == ir.DataType.FLOAT16]
        return [name for name in halves if name in values and np.abs(values[name]).max() > LARGEST_HALF]

    if plant is plant_large_scores:  # the others have no form without marks at all: a weight or a bias is too large
        assert list_overflows(type_graph(graph, "fp16"))
    mark_wide(graph, images)
    assert list_overflows(type_graph(graph, "fp16")) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_ordinary_models_have_no_marks(family: str) -> None:
    graph = make_graph(family)
    assert mark_wide(graph, make_pixels(family, 2)) == ()
    assert not any(is_wide(node) for node in graph.model.graph)


def test_values_that_are_not_numbers_are_marked() -> None:
    graph = make_graph("vit")
    change(find_node(graph, "blocks.1.mlp.fc1").inputs[1], lambda weight: weight * np.nan)
    assert "blocks.1.mlp.fc1" in mark_wide(graph, make_pixels("vit", 1))


@pytest.mark.parametrize("site", ["blocks.0.mlp.fc2", "blocks.0.norm2", "blocks.0/add"])
def test_int8_graph_with_a_wide_node_keeps_tensorrts_rules(site: str, tmp_path: Path) -> None:
    form = ExportForm(qkv="packed", fold_residual_rotation=True)
    images = make_pixels("vit", 4)
    graph = quantize_all(make_graph("vit", form), images, Quantization(float_share=0.0), "tensorrt_rtx")
    find_node(graph, site).metadata_props[MARK] = "fp32"
    typed = type_graph(graph, "fp16")
    typed.save(tmp_path / "typed.onnx")
    onnx.checker.check_model(str(tmp_path / "typed.onnx"), full_check=True)
    assert find_violations(typed, "8.6") == ()
    wanted, found = run_graph(graph, images)[0], run_graph(typed, images)[0]
    assert np.square(found - wanted).sum() < 1e-2 * np.square(wanted).sum()
    assert find_node(typed, site).outputs[0].dtype == ir.DataType.FLOAT


def plant_large_hidden(graph: Graph, block: str) -> None:
    """A hidden channel of the MLP beyond the range, in front of the second Linear's quantiser."""
    node = find_node(graph, f"{block}.mlp.fc1")

    def raise_one(bias: np.ndarray) -> np.ndarray:
        bias = bias.copy()
        bias[3] += 2e5
        return bias

    change(find_bias_value(node), raise_one)
    change(find_node(graph, f"{block}.mlp.fc2").inputs[1], lambda weight: weight * np.float32(1e-3))


@pytest.mark.parametrize("plant", [*PLANTS, plant_large_hidden])
@pytest.mark.parametrize("family", FAMILIES)
def test_int8_graph_with_planted_values_holds_in_float16_what_it_computes_in_float32(
    family: str, plant: Callable[[Graph, str], None], tmp_path: Path
) -> None:
    graph = make_graph(family)
    plant(graph, FAMILIES[family])
    images = make_pixels(family, 4)
    quantization = Quantization(float_share=0.0, rounding="nearest")
    base, plan, record = fit_sites(graph, images, quantization, "tensorrt")
    assert mark_wide(base, images)
    quantized = apply_plan(base, plan, [site.name for site in record.sites if site.precision == "int8"])
    quantized.save(tmp_path / "quantized.onnx")  # as a portable bundle carries it
    quantized = Graph.load(tmp_path / "quantized.onnx")
    typed = type_graph(quantized, "fp16")
    typed.save(tmp_path / "typed.onnx")
    onnx.checker.check_model(str(tmp_path / "typed.onnx"), full_check=True)
    assert find_violations(typed, "8.6") == ()
    floats = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
    names = [v.name for n in quantized.model.graph for v in n.outputs if v.dtype in floats and v.name != "logits"]
    values = dict(zip(names, run_graph(quantized, images, names), strict=True))
    halves = {v.name for n in typed.model.graph for v in n.outputs if v.dtype == ir.DataType.FLOAT16}
    assert [name for name in halves & set(names) if np.abs(values[name]).max() > LARGEST_HALF] == []
    wanted, found = run_graph(quantized, images)[0], run_graph(typed, images)[0]
    assert np.isfinite(found).all()
    assert np.square(found - wanted).sum() < 2e-2 * np.square(wanted).sum()


def test_what_centres_a_wide_value_in_front_of_its_quantiser_is_wide() -> None:
    graph = make_graph("vit")
    plant_large_hidden(graph, "blocks.0")
    images = make_pixels("vit", 2)
    quantization = Quantization(float_share=0.0, rounding="nearest")
    base, plan, _ = fit_sites(graph, images, quantization, "tensorrt")
    mark_wide(base, images)
    site = "blocks.0.mlp.fc2"
    affine = Affine(np.full(1, 1e5, np.float32), np.full(1, 0.5, np.float32))
    plan.sites[site] = dataclasses.replace(plan.sites[site], affine=affine)
    typed = type_graph(apply_plan(base, plan, [site]), "fp16")
    for part in ("center", "factor"):
        assert find_node(typed, f"{site}/{part}").outputs[0].dtype == ir.DataType.FLOAT
    assert find_violations(typed, "8.6") == ()
