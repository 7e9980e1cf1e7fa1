"""TensorRT's rules, each broken on purpose in a graph that keeps them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgevit.core.quantization import Quantization
from edgevit.core.target import ExportForm, load_target
from edgevit.engines.tensorrt.typed import type_graph
from edgevit.engines.tensorrt.typed_rules import KNOWN_OPS, find_violations
from edgevit.graph.graph import Graph
from edgevit.runtime.tensorrt.log import get_log
from tests.support.broken_rules import (
    insert_cast,
    insert_flatten,
    make_negative,
    make_unsigned,
    mix_types,
    move_zero,
    scale_channels,
    use_fp8,
    use_unknown_op,
    widen_scale,
)
from tests.support.quantized import quantize_all
from tests.support.small_graphs import make_graph, make_pixels


@pytest.fixture(scope="module", params=["vit", "swin"])
def quantized(request: pytest.FixtureRequest) -> Graph:
    graph = make_graph(request.param, ExportForm(qkv="packed", fold_residual_rotation=True))
    pixels = make_pixels(request.param, 2)
    return quantize_all(graph, pixels, Quantization(float_share=0.0, rounding="nearest"), "tensorrt_rtx")


FAULTS = (
    move_zero,
    make_unsigned,
    widen_scale,
    make_negative,
    scale_channels,
    use_fp8,
    insert_cast,
    insert_flatten,
    use_unknown_op,
    mix_types,
)


@pytest.mark.parametrize("capability", ["8.6", "8.9", None])
def test_graphs_that_edgevit_makes_keep_every_rule(quantized: Graph, capability: str | None) -> None:
    assert find_violations(type_graph(quantized, "fp16"), capability) == ()
    assert find_violations(type_graph(quantized, "fp32"), capability) == ()


@pytest.mark.parametrize("plant", FAULTS)
def test_every_fault_is_found_and_named(quantized: Graph, plant: Callable[[Graph], tuple[str, str]]) -> None:
    typed = type_graph(quantized, "fp16")
    site, complaint = plant(typed)
    found = find_violations(typed, "8.6")
    assert any(text.startswith(f"{site}: ") and complaint in text for text in found), found


def test_fp8_is_fine_from_8_9_and_where_the_gpu_is_not_known(quantized: Graph) -> None:
    typed = type_graph(quantized, "fp16")
    use_fp8(typed)
    assert not [text for text in find_violations(typed, "8.9") if "fp8" in text]
    assert not [text for text in find_violations(typed, None) if "fp8" in text]


def test_all_faults_are_listed_together(quantized: Graph) -> None:
    typed = type_graph(quantized, "fp16")
    sites = {plant(typed)[0] for plant in (move_zero, insert_cast)}
    assert {text.split(": ")[0] for text in find_violations(typed, "8.6")} >= sites


LEFT_OUT = {
    "If", "Loop", "Scan",  # subgraphs, which nothing here looks into
    "GRU", "LSTM", "RNN",  # states
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",  # chance
    "NonMaxSuppression", "NonZero",  # shapes that depend on values
    "Resize", "Upsample", "RoiAlign",  # parameters that are float32 whatever the data are
    "EyeLike", "Range",  # types that are not those of an input
    "BlackmanWindow", "HammingWindow", "HannWindow", "STFT",  # of sound
    "GlobalLpPool", "LRN", "LpPool", "MeanVarianceNormalization", "ReverseSequence", "Shrink", "Hardmax", "Scatter",
    "IsInf", "IsNaN",
}  # fmt: skip
"""Of the parser's operators up to opset 20; nobody has missed the last two lines in a vision encoder."""


def test_operators_that_the_rules_know_are_the_parsers() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    log = get_log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    names = {s.name for s in onnx.defs.get_all_schemas_with_history() if s.domain == "" and s.since_version <= 20}
    assert {op for op in names if parser.supports_operator(op)} - LEFT_OUT == KNOWN_OPS
    assert not parser.supports_operator("Multinomial"), "or the question would say nothing"


def test_stem_of_a_hybrid_keeps_the_rules_and_compiles(tmp_path: Path) -> None:
    """Convolution, batch or group normalisation, hard swish: the rules refused all but the first."""
    pytest.importorskip("tensorrt_rtx")
    from edgevit.engines.tensorrt.backend import TENSORRT_RTX

    text = """<ir_version: 10, opset_import: ["" : 20]>
    stem (uint8[1, 8, 8, 3] image) => (float[1, 16] embedding)
    <float[16] one, float[16] zero, float[4] gain, float[4] shift> {
        pixels = Cast <to = 1> (image)
        moved = Transpose <perm = [0, 3, 1, 2]> (pixels)
        maps = Conv <strides = [2, 2], kernel_shape = [2, 2]> (moved, weight)
        normed = BatchNormalization (maps, one, zero, zero, one)
        active = HardSwish (normed)
        grouped = GroupNormalization <num_groups = 4> (active, gain, shift)
        pooled = ReduceLogSumExp <keepdims = 0> (grouped, axes)
        embedding = Reciprocal (pooled)
    }"""
    model = onnx.parser.parse_model(text)
    generator = np.random.default_rng(0)
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "weight": generator.standard_normal((16, 3, 2, 2)).astype(np.float32) / 255,
        "one": np.ones(16, np.float32),
        "zero": np.zeros(16, np.float32),
        "gain": np.ones(4, np.float32),
        "shift": np.zeros(4, np.float32),
        "axes": np.array([2, 3], np.int64),
    }
    model.graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in arrays.items())
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "graph.onnx")
    graph = Graph.load(tmp_path / "graph.onnx")
    assert find_violations(type_graph(graph, "fp16"), "8.6") == ()
    assert TENSORRT_RTX.compile(tmp_path / "graph.onnx", load_target("rtx-30"), "fp16", tmp_path, {}).path.is_file()


def test_foreign_normalisation_by_reduce_l2_and_clip_keeps_the_rules_and_compiles(tmp_path: Path) -> None:
    """As torch's ``functional.normalize`` is exported; for a while the rules refused both operators."""
    pytest.importorskip("tensorrt_rtx")
    from edgevit.engines.tensorrt.backend import TENSORRT_RTX

    text = """<ir_version: 10, opset_import: ["" : 20]>
    normalise (uint8[1, 4, 4, 3] image) => (float[1, 16] embedding)
    <int64[2] flat = {1, 48}, int64[1] last = {1}, float least = {0.001}> {
        pixels = Cast <to = 1> (image)
        row = Reshape (pixels, flat)
        features = MatMul (row, weight)
        norm = ReduceL2 <keepdims = 1> (features, last)
        clipped = Clip (norm, least)
        embedding = Div (features, clipped)
    }"""
    model = onnx.parser.parse_model(text)
    weight = np.random.default_rng(0).standard_normal((48, 16)).astype(np.float32) / 2550
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "weight"))
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "graph.onnx")
    graph = Graph.load(tmp_path / "graph.onnx")
    assert find_violations(type_graph(graph, "fp16"), "8.6") == ()
    assert TENSORRT_RTX.compile(tmp_path / "graph.onnx", load_target("rtx-30"), "fp16", tmp_path, {}).path.is_file()


def test_sampling_at_points_and_a_chosen_infinity_keep_the_rules_and_compile(tmp_path: Path) -> None:
    """As deformable attention is exported, in RF-DETR and Mask2Former, with proposals outside the image at infinity."""
    pytest.importorskip("tensorrt_rtx")
    from edgevit.engines.tensorrt.backend import TENSORRT_RTX

    text = """<ir_version: 10, opset_import: ["" : 20]>
    sample (uint8[1, 8, 8, 3] image) => (float[1, 3, 1, 4] points)
    <float far = {inf}, float half = {0.5}> {
        pixels = Cast <to = 1> (image)
        maps = Transpose <perm = [0, 3, 1, 2]> (pixels)
        found = GridSample <align_corners = 0, mode = "linear", padding_mode = "zeros"> (maps, grid)
        low = Less (found, half)
        points = Where (low, far, found)
    }"""
    model = onnx.parser.parse_model(text.replace("{inf}", "{1}"))
    grid = np.linspace(-0.9, 0.9, 8, dtype=np.float32).reshape(1, 1, 4, 2)
    model.graph.initializer.append(onnx.numpy_helper.from_array(grid, "grid"))
    (far,) = (i for i in model.graph.initializer if i.name == "far")
    far.CopyFrom(onnx.numpy_helper.from_array(np.array(np.inf, np.float32), "far"))
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "graph.onnx")
    typed = type_graph(Graph.load(tmp_path / "graph.onnx"), "fp16")
    assert find_violations(typed, "8.6") == ()
    assert np.isinf(typed.model.graph.initializers["far"].const_value.numpy())
    assert TENSORRT_RTX.compile(tmp_path / "graph.onnx", load_target("rtx-30"), "fp16", tmp_path, {}).path.is_file()
