"""FP8 graphs against arithmetic of ml_dtypes, and what TensorRT-RTX makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest

from edgevit.core.errors import CalibrationError, CompileError, RecipeError
from edgevit.core.quantization import Quantization
from edgevit.core.target import ExportForm, load_target
from edgevit.engines.fusion_file import load_fusion
from edgevit.engines.tensorrt.backend import TENSORRT_RTX
from edgevit.engines.tensorrt.typed import type_graph
from edgevit.engines.tensorrt.typed_rules import find_violations
from edgevit.graph.graph import Graph
from edgevit.graph.linears import read_weight, trace_layout
from edgevit.quantize.grid import FloatGrid
from tests.support.quantized import quantize_all, quantize_fp8
from tests.support.small_graphs import find_node, make_graph, make_pixels, run_graph

PACKED = ExportForm(qkv="packed")
FAMILIES = ("vit", "swin")


def quantize(family: str, **options: Any) -> tuple[Graph, Graph]:
    graph = make_graph(family, PACKED)
    quantization = Quantization(**options)
    return graph, quantize_all(graph, make_pixels(family, 4), quantization, "tensorrt_rtx", precision="fp8")


@pytest.mark.parametrize("products", ["auto", "both"])
@pytest.mark.parametrize("family", FAMILIES)
def test_fp8_graph_is_valid_and_near_the_float_graph(family: str, products: str, tmp_path: Path) -> None:
    graph, quantized = quantize(family, products=products)
    quantized.save(tmp_path / "fp8.onnx")
    onnx.checker.check_model(str(tmp_path / "fp8.onnx"), full_check=True)
    images = make_pixels(family, 4)
    wanted, found = run_graph(graph, images)[0], run_graph(quantized, images)[0]
    noise = np.square(found - wanted).sum() / np.square(wanted).sum()
    assert 0 < noise < 1e-2  # three bits of mantissa: about 20 dB at the logits and better
    typed = type_graph(quantized, "fp16")
    assert find_violations(typed, "8.9") == ()
    assert np.square(run_graph(typed, images)[0] - found).sum() < 1e-2 * np.square(wanted).sum()


def test_scales_bring_the_largest_magnitude_to_the_largest_number() -> None:
    graph, quantized = quantize("vit")
    site = "blocks.0.mlp.fc1"
    source = trace_layout(find_node(graph, site).inputs[0]).name
    seen = run_graph(graph, make_pixels("vit", 4), [source])[0]
    scale = find_node(quantized, f"{source}/quantize").inputs[1].const_value.numpy()
    assert scale == pytest.approx(np.abs(seen).max() / FloatGrid.largest, rel=1e-4)
    weight = read_weight(find_node(graph, site))
    inputs = find_node(quantized, f"{site}/weight").inputs
    codes, scales = (v.const_value.numpy() for v in inputs[:2])
    assert codes.dtype == ml_dtypes.float8_e4m3fn
    np.testing.assert_allclose(np.abs(codes.astype(np.float32)).max(axis=0), FloatGrid.largest)
    restored = codes.astype(np.float32) * scales
    assert np.abs(restored - weight).max() <= np.abs(weight).max() * 2**-4


def test_one_pair_serves_all_readers_and_probabilities_have_their_fixed_scale() -> None:
    graph = make_graph("vit", ExportForm(qkv="separate"))
    quantized, _ = quantize_fp8(graph, make_pixels("vit", 1), "tensorrt_rtx", {}, products="both")
    pair = find_node(quantized, "blocks.0.norm1/dequantize")
    assert {use.node.name for use in pair.outputs[0].uses()} == {f"blocks.0.attn.{n}" for n in "qkv"}
    softmax = find_node(quantized, "blocks.0.attn/softmax").outputs[0]
    (reader,) = [use.node for use in softmax.uses()]
    assert reader.op_type == "QuantizeLinear"
    assert reader.inputs[1].const_value.numpy() == np.float32(1 / 448)


def test_pins_keep_sites_float_and_unknown_ones_are_refused() -> None:
    graph, images = make_graph("vit", PACKED), make_pixels("vit", 1)
    quantized, record = quantize_fp8(graph, images, "tensorrt_rtx", {"blocks.*.mlp.fc2": "float"})
    reasons = {site.name: (site.precision, site.reason) for site in record.sites}
    assert reasons["blocks.0.mlp.fc2"] == ("float", "the recipe keeps it float")
    assert reasons["blocks.0.mlp.fc1"] == ("fp8", "")
    assert reasons["patch_embed.proj"][0] == reasons["head"][0] == "float"
    assert find_node(quantized, "blocks.0.mlp.fc2").inputs[1].const_value is not None
    with pytest.raises(RecipeError, match="nothing"):
        quantize_fp8(graph, images, "tensorrt_rtx", {"nothing": "float"})


def test_sites_that_make_most_noise_stay_float_and_the_logits_gain() -> None:
    graph, images = make_graph("vit", PACKED), make_pixels("vit", 4)
    plain, before = quantize_fp8(graph, images, "tensorrt_rtx", {})
    kept, after = quantize_fp8(graph, images, "tensorrt_rtx", {}, sqnr_db=60, float_share=0.3)
    assert before.fallback == ()
    assert {s.name for s in before.worst} == {s.name for s in before.sites if s.precision == "fp8"}
    assert after.fallback
    assert {s.name for s in before.sites if s.precision == "fp8"} == {s.name for s in after.worst}
    floats = [s for s in after.sites if s.name in after.fallback]
    assert {(s.precision, s.reason) for s in floats} == {
        ("float", "it makes much noise for the time that FP8 would save")
    }
    for site in after.fallback:
        assert find_node(kept, site).inputs[1].const_value is not None, "its weight is as it was"
    wanted = run_graph(graph, images)[0]
    noise = [np.square(run_graph(g, images)[0] - wanted).sum() for g in (plain, kept)]
    assert noise[1] < noise[0]
    easy = quantize_fp8(graph, images, "tensorrt_rtx", {}, sqnr_db=1, float_share=0.3)[1]
    assert easy.fallback == (), "what is asked for is met with all sites in FP8"


@pytest.mark.parametrize("family", FAMILIES)
def test_damage_of_a_site_is_that_of_the_graph_with_this_site_alone_in_fp8(family: str) -> None:
    """Measured segment by segment, where layout ops may be cut off from what they move."""
    graph, images = make_graph(family, PACKED), make_pixels(family, 3)
    record = quantize_fp8(graph, images, "tensorrt_rtx", {}, sqnr_db=60, float_share=0.01)[1]
    wanted = run_graph(graph, images)[0]
    quantizable = [s.name for s in record.sites if s.sqnr_db is not None]
    for site in record.worst[:3]:
        pins = {name: "float" for name in quantizable if name != site.name}
        alone = run_graph(quantize_fp8(graph, images, "tensorrt_rtx", pins)[0], images)[0]
        sqnr = 10 * np.log10(np.square(wanted).sum() / np.square(alone - wanted).sum())
        assert site.sqnr_db == pytest.approx(sqnr, abs=0.3)


def test_no_images_and_values_that_are_no_numbers_are_refused() -> None:
    import onnx_ir as ir

    graph = make_graph("vit", PACKED)
    with pytest.raises(CalibrationError, match="no calibration images"):
        quantize_fp8(graph, [], "tensorrt_rtx", {})
    weight = find_node(graph, "blocks.0.mlp.fc1").inputs[1]
    weight.const_value = ir.tensor(weight.const_value.numpy() * np.inf, name=weight.name)
    with pytest.raises(CalibrationError, match="not finite"):
        quantize_fp8(graph, make_pixels("vit", 1), "tensorrt_rtx", {})


@pytest.mark.parametrize("name", ["rtx-40", "rtx-50"])
@pytest.mark.parametrize("family", FAMILIES)
def test_compiler_multiplies_in_fp8_and_leaves_no_pair_alone(family: str, name: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    _, quantized = quantize(family)
    quantized.save(tmp_path / "fp8.onnx")
    TENSORRT_RTX.compile(tmp_path / "fp8.onnx", load_target(name), "fp8", tmp_path, {})
    record = load_fusion(tmp_path)
    assert record.products["fp8"] > 0
    # Heads of eight channels are not fused, and then neither is what quantises their result.
    assert all(name.endswith("attn/context/quantize") for name in record.unfused_quantizers)


def test_fp8_for_an_older_gpu_is_refused_by_site_before_the_compiler_sees_it(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("tensorrt_rtx")
    from edgevit.engines.tensorrt.backend import TensorRT

    _, quantized = quantize("vit")
    quantized.save(tmp_path / "fp8.onnx")
    monkeypatch.setattr(TensorRT, "_build", lambda *args: pytest.fail("the compiler saw it"))
    with pytest.raises(CompileError, match="fp8 begins with compute capability") as caught:
        TENSORRT_RTX.compile(tmp_path / "fp8.onnx", load_target("rtx-30"), "fp8", tmp_path, {})
    assert "blocks.0.mlp.fc1/weight" in caught.value.message
