"""What every family has behind the checkpoint: exported, optimised, quantised for OpenVINO, fused by TensorRT-RTX."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edgevit.build.inspect import count_macs
from edgevit.build.rehearsal import list_fusion_warnings, rehearse_fusion
from edgevit.build.trial import GraphFile
from edgevit.core.cache import StageCache
from edgevit.core.quantization import Quantization
from edgevit.core.target import ExportForm, load_target
from edgevit.graph.graph import Graph
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.models.export import export_model, float_module
from edgevit.models.model import Model
from tests.support.quantized import quantize_graph
from tests.support.reference import count_flops
from tests.support.small_graphs import run_graph
from tests.support.small_models import VITS, make_images, make_model

WIDER: dict[str, Any] = {"width": 64, "mlp_width": 128, "depth": 2, "classes": 7}
FAMILIES = {
    "dinov2_with_registers": dataclasses.replace(VITS["registers"], **WIDER),
    "dinov2_giant_classifier": dataclasses.replace(VITS["token_mean"], **WIDER),
    "clip": dataclasses.replace(VITS["clip"], **WIDER),
    "siglip": dataclasses.replace(VITS["siglip"], **WIDER),
    "qk_norm": dataclasses.replace(VITS["qk_norm"], **WIDER),
}


@functools.cache
def build(name: str) -> Model:
    return make_model(FAMILIES[name])


def export(name: str, form: ExportForm) -> Graph:
    return optimize_graph(export_model(build(name), form)[0])[0]


def answer(name: str, images: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
    with torch.inference_mode():
        logits: npt.NDArray[np.float32] = float_module(build(name))(torch.from_numpy(np.concatenate(images))).numpy()
    return logits


def draw(name: str, count: int, seed: int) -> list[npt.NDArray[np.uint8]]:
    return [image[None] for image in make_images(FAMILIES[name], count, seed).numpy()]


@pytest.mark.parametrize("name", FAMILIES)
def test_int8_for_openvino_computes_what_the_module_does(name: str) -> None:
    graph = export(name, ExportForm(fold_residual_rotation=True))
    images = draw(name, 8, 77)
    wanted, found = answer(name, images), run_graph(graph, images)[0]
    np.testing.assert_allclose(found, wanted, atol=1e-5 * abs(wanted).max())
    quantized, _, record = quantize_graph(graph, draw(name, 24, 1), Quantization(), "openvino")
    noise = np.square(run_graph(quantized, images)[0] - wanted).sum()
    # Some eighteen Linears of eight bits one after the other; one whose fold were wrong would end near 0 dB.
    assert 10 * np.log10(np.square(wanted).sum() / noise) > 22
    # Nothing but what the recipe's noise budget asks for stays float, and every site has its damage.
    assert {site.precision for site in record.sites if "noise" not in site.reason} == {"int8"}
    assert all(site.sqnr_db is not None and site.sqnr_db > 25 for site in record.sites)


@pytest.mark.parametrize("name", FAMILIES)
def test_tensorrt_fuses_all_attention_in_half_precision(name: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    target = load_target("rtx-30")
    export(name, target.export).save(tmp_path / "graph.onnx")
    files = {"fp16": GraphFile(tmp_path / "graph.onnx", {"graph": name})}
    found = rehearse_fusion(files, target, (1, 1, 1), StageCache(tmp_path / "cache"))
    assert list_fusion_warnings(found) == ()
    record = found.fusion["fp16"]
    assert record.device == "SM86"
    assert dict(record.attention) == {f"blocks.{i}.attn": "fp16" for i in range(2)}


def test_attention_pool_is_one_linear_of_scores_and_one_product() -> None:
    sites = [site.name for site in export("siglip", ExportForm()).sites()]
    assert [name for name in sites if name.startswith("attn_pool")] == [
        "attn_pool.score",
        "attn_pool.v",
        "attn_pool/context",
        "attn_pool.proj",
        "attn_pool.mlp.fc1",
        "attn_pool.mlp.fc2",
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_macs_count_every_product_of_the_module(name: str) -> None:
    """By torch's own counter, which counts a multiplication with its addition as two."""
    model = build(name)
    pixels = torch.zeros(1, 3, *model.image_size)
    with count_flops() as counter, torch.inference_mode():
        model.module(pixels)
    sites, attention = count_macs(model.module, model.image_size)
    assert 2 * (sum(site.macs for site in sites) + attention) == counter.get_total_flops()
