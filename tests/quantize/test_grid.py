"""Grid against ONNX Runtime's own operators."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgevit.quantize.grid import Grid
from edgevit.quantize.placement import GridKind

KINDS: tuple[GridKind, ...] = ("u8", "i8", "u8_zero")
FLOATS = st.floats(-1e6, 1e6, width=32)


def run_onnx(values: npt.NDArray[np.float32], grid: Grid) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Codes and numbers of QuantizeLinear and DequantizeLinear."""
    zero = np.array(grid.zero_point, np.int8 if grid.signed else np.uint8)
    scale = np.array(grid.scale, np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"]),
            helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["y"]),
        ],
        "pair",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [
            helper.make_tensor_value_info("codes", TensorProto.INT8 if grid.signed else TensorProto.UINT8, ["n"]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"]),
        ],
        [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(zero, "zero")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    codes, numbers = session.run(None, {"x": values})
    return codes, numbers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("low", "high"), [(-1.7, 3.1), (0, 6), (-5, 0), (-1e-6, 2e-6), (-3e8, 1e9), (2, 3)])
def test_grid_apply_of_any_kind_equals_onnxruntime_bit_for_bit(kind: GridKind, low: float, high: float) -> None:
    grid = Grid.from_range(kind, low, high)
    rng = np.random.default_rng(0)
    halves = (np.arange(-300, 300) + 0.5) * grid.scale  # ties
    spread = rng.uniform(2 * low - high, 2 * high - low, 5000)
    values = np.concatenate([halves, spread, [0, low, high, 1e38, -1e38, 1e-40]]).astype(np.float32)
    codes, numbers = run_onnx(values, grid)
    assert (codes.min(), codes.max()) == (grid.low_code, grid.high_code)
    np.testing.assert_array_equal(grid.apply(values).view(np.int32), numbers.view(np.int32))


@settings(max_examples=200, deadline=None)
@given(FLOATS, FLOATS)
@example(1.5414283107572988e-44, -4.5222704040690497e-41)
def test_grid_from_range_of_asymmetric_range_covers_it_to_half_a_step(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    grid = Grid.from_range("u8", low, high)
    assert grid.apply(np.zeros(1)) == 0
    first, last = ((code - grid.zero_point) * grid.scale for code in (grid.low_code, grid.high_code))
    slack = 0.5001 * grid.scale
    assert first - slack <= min(low, 0)
    assert max(high, 0) <= last + slack
    wanted = max(high, 0) - min(low, 0)
    if wanted > 1e-35:  # the steps of a smaller range would be subnormal
        assert math.isclose(last - first, wanted, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("kind", "low", "high", "expected"),
    [
        ("i8", -2.0, 1.0, Grid(2 / 127, 0, -128, 127)),
        ("u8_zero", 0.0, 1.0, Grid(1 / 255, 0, 0, 255)),
        ("u8_zero", -0.1, 1.0, Grid(1 / 255, 0, 0, 255)),
        ("i8", 0.0, 0.0, Grid(1.0, 0, -128, 127)),
        ("u8", -1.0, 2.0, Grid(3 / 255, 85, 0, 255)),
        ("i8", -1.0, 2.0, Grid(2 / 127, 0, -128, 127)),
    ],
)
def test_grid_from_range_of_each_kind(kind: GridKind, low: float, high: float, expected: Grid) -> None:
    assert Grid.from_range(kind, low, high) == expected


@pytest.mark.parametrize(("low", "high"), [(math.nan, 1), (0, math.inf), (1, 0)])
def test_grid_from_range_of_no_range_raises(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="no grid"):
        Grid.from_range("u8", low, high)


@pytest.mark.parametrize("codes", [(0, -1, 255), (300, 0, 255), (0, -128, 255), (0, 0, 256)])
def test_grid_with_codes_that_do_not_fit_raises(codes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"grid|codes"):
        Grid(0.1, *codes)
