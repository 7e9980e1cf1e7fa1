"""OpenVINO's wheel of aarch64, emulated: its kernels for the graphs of both placements, and what they answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.arm.emulator import Answers, answer_here, answer_on_arm, compare, run, start_on_arm

pytestmark = pytest.mark.arm

CPU = "cortex-a76"
LEAST_DB = {"fp32": 90.0, "int8": 30.0}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("model", ["vit", "swin"])
def test_bundle_for_openvino_is_answered_on_arm_as_here(
    root: Path, digits: tuple[Path, list[Path]], demo_bundles: Callable[..., Path], model: str, precision: str
) -> None:
    bundle = demo_bundles(model, precision, "openvino")
    expected, found = answer_here(bundle, digits[1]), answer_on_arm(root, CPU, bundle, digits[1])
    same, sqnr_db = compare(expected, found)
    print(f"demo {model} {precision}, OpenVINO, emulated {CPU}: same top-1 on {same}, {sqnr_db:.1f} dB")
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    assert (same, found.machine) == (len(digits[1]), "aarch64")
    assert sqnr_db >= LEAST_DB[precision]


@pytest.mark.parametrize("model", ["vit", "swin"])
def test_graph_with_float_products_has_int8_kernels_for_all_its_linears(
    root: Path, digits: tuple[Path, list[Path]], demo_bundles: Callable[..., Path], tmp_path: Path, model: str
) -> None:
    """What ONNX Runtime gets suits OpenVINO on Arm too, so that one graph of a portable bundle serves both."""
    import onnx

    bundle = demo_bundles(model, "int8")
    graph = onnx.load(bundle / "model.onnx").graph
    codes = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.INT8}
    linears = sum(node.op_type == "DequantizeLinear" and node.input[0] in codes for node in graph.node)

    expected = answer_here(bundle, digits[1])
    np.savez(tmp_path / "pixels.npz", pixels=expected.pixels)
    script = Path(__file__).with_name("count_kernels.py")
    command: list[str | Path] = [
        *start_on_arm(root, CPU),
        script,
        bundle / "model.onnx",
        tmp_path / "pixels.npz",
        tmp_path / "out.npz",
    ]
    kernels: dict[str, int] = json.loads(run(command, root / "wheels"))
    with np.load(tmp_path / "out.npz") as stored:
        same, sqnr_db = compare(expected, Answers(expected.pixels, stored["logits"], "aarch64"))
    print(f"demo {model} int8, OpenVINO on the graph for ONNX Runtime, emulated {CPU}: {sqnr_db:.1f} dB, {kernels}")
    assert same == len(expected.logits)
    assert sqnr_db >= LEAST_DB["int8"]
    assert kernels["FullyConnected gemm_acl_I8"] == linears > 0
    assert not any(name.startswith("MatMul ref") for name in kernels)
