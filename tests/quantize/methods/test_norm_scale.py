"""LayerNorms whose output channels have one range: the same function, and the ranges asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgevit.core.quantization import Quantization
from edgevit.quantize.methods.norm_scale import choose_norm_scale, find_norm_readers, fold_norm_scale
from tests.support.quantized import fit_sites
from tests.support.small_graphs import find_node, make_graph, make_pixels, run_graph

READERS = {
    "vit": {"blocks.0.norm1": "qkv", "blocks.0.norm2": ["mlp.fc1"], "blocks.1.norm1": "qkv"},
    "swin": {
        "layers.0.blocks.0.norm1": "qkv",
        "layers.0.blocks.1.norm1": "qkv",
        "layers.0.blocks.0.norm2": ["mlp.fc1"],
    },
}


@pytest.mark.parametrize("family", ["vit", "swin"])
def test_find_norm_readers_gives_the_linears_behind_windows_and_slices(family: str) -> None:
    graph = make_graph(family)
    for norm, parts in READERS[family].items():
        found = find_norm_readers(find_node(graph, norm))
        assert found is not None
        block = norm.rpartition(".")[0]
        wanted = {f"{block}.attn.{p}" if len(p) == 1 else f"{block}.{p}" for p in parts}
        assert {node.name for node in found} == wanted


def test_find_norm_readers_when_something_else_reads_it_is_none() -> None:
    # The embedding's own LayerNorm is the residual stream; the last one is averaged over tokens.
    graph = make_graph("swin")
    assert find_norm_readers(find_node(graph, "patch_norm")) is None
    assert find_norm_readers(find_node(graph, "norm")) is None


@pytest.mark.parametrize("family", ["vit", "swin"])
def test_fold_norm_scale_changes_no_output(family: str) -> None:
    images = make_pixels(family, 4)
    graph = make_graph(family)
    logits = run_graph(graph, images)[0]
    rng = np.random.default_rng(0)
    for name in READERS[family]:
        norm = find_node(graph, name)
        readers = find_norm_readers(norm)
        assert readers is not None
        width: Any = norm.outputs[0].shape[-1]
        center = rng.standard_normal(width).astype(np.float32)
        fold_norm_scale(norm, readers, center, rng.uniform(0.2, 5, width).astype(np.float32))
    np.testing.assert_allclose(run_graph(graph, images)[0], logits, atol=2e-5 * abs(logits).max())


def test_choose_norm_scale_brings_every_channel_to_the_mean_reach() -> None:
    low, high = np.array([-1, -8, 2], np.float32), np.array([1, 0, 3], np.float32)
    center, factor = choose_norm_scale(low, high)
    reach = (1 + 4 + 0.5) / 3
    np.testing.assert_allclose((low - center) * factor, -reach, rtol=1e-6)
    np.testing.assert_allclose((high - center) * factor, reach, rtol=1e-6)
    assert choose_norm_scale(np.zeros(2, np.float32), np.array([0, 1], np.float32))[1].max() <= 20


def test_plan_quantization_with_norm_scale_keeps_the_float_graph_and_evens_the_ranges() -> None:
    images = make_pixels("vit")
    graph = make_graph("vit")
    value = find_node(graph, "blocks.0.norm2").inputs[1]
    assert value is not None
    assert value.const_value is not None
    weight = value.const_value.numpy().copy()
    weight[3] *= 50  # an outlier channel
    value.const_value = ir.tensor(weight, name=value.name)
    base, plan, _ = fit_sites(graph, images, Quantization(norm_scale=True), "openvino")
    logits = run_graph(graph, images)[0]
    np.testing.assert_allclose(run_graph(base, images)[0], logits, atol=2e-5 * abs(logits).max())
    plain = fit_sites(graph, images, Quantization(), "openvino")[1]
    site = "blocks.0.mlp.fc1"
    assert plan.sites[site].grids[0].scale < 0.2 * plain.sites[site].grids[0].scale
