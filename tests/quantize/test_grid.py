"""Grid against ONNX Runtime's own operators."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgevit.quantize.grid import Grid

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


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("low", "high"), [(-1.7, 3.1), (0, 6), (-5, 0), (-1e-6, 2e-6), (-3e8, 1e9), (2, 3)])
def test_grid_apply_of_any_kind_equals_onnxruntime_bit_for_bit(
    signed: bool, symmetric: bool, low: float, high: float
) -> None:
    grid = Grid.from_range(low, high, signed=signed, symmetric=symmetric, narrow=False)
    rng = np.random.default_rng(0)
    halves = (np.arange(-300, 300) + 0.5) * grid.scale  # ties
    spread = rng.uniform(2 * low - high, 2 * high - low, 5000)
    values = np.concatenate([halves, spread, [0, low, high, 1e38, -1e38, 1e-40]]).astype(np.float32)
    codes, numbers = run_onnx(values, grid)
    assert grid.quantize(values).dtype == codes.dtype
    np.testing.assert_array_equal(grid.quantize(values), codes)
    np.testing.assert_array_equal(grid.apply(values).view(np.int32), numbers.view(np.int32))


def test_grid_quantize_of_narrow_grid_differs_from_onnx_in_code_minus_128_alone() -> None:
    grid = Grid.from_range(-1, 1, signed=True, symmetric=True)
    values = np.linspace(-1.2, 1.2, 4001, dtype=np.float32)
    codes, _ = run_onnx(values, grid)
    assert codes.min() == -128
    np.testing.assert_array_equal(grid.quantize(values), np.maximum(codes, -127))


@settings(max_examples=200, deadline=None)
@given(FLOATS, FLOATS, st.booleans())
def test_grid_from_range_of_asymmetric_range_covers_it_to_half_a_step(a: float, b: float, signed: bool) -> None:
    low, high = min(a, b), max(a, b)
    grid = Grid.from_range(low, high, signed=signed, symmetric=False)
    assert grid.apply(np.zeros(1)) == 0
    slack = 0.5001 * grid.scale
    assert grid.low - slack <= min(low, 0)
    assert max(high, 0) <= grid.high + slack
    if high > 0 > low or max(abs(low), abs(high)) > 1e-30:
        assert math.isclose(grid.high - grid.low, max(high, 0) - min(low, 0), rel_tol=1e-6)


@pytest.mark.parametrize(
    ("low", "high", "signed", "expected"),
    [
        (-2.0, 1.0, True, (np.float32(2 / 127), 0, -127, 127)),
        (0.0, 1.0, False, (np.float32(1 / 255), 0, 0, 255)),
        (-0.1, 1.0, False, (np.float32(1 / 255), 0, 0, 255)),
        (0.0, 0.0, True, (1.0, 0, -127, 127)),
    ],
)
def test_grid_from_range_when_symmetric_has_zero_point_0(
    low: float, high: float, signed: bool, expected: tuple[float, int, int, int]
) -> None:
    grid = Grid.from_range(low, high, signed=signed, symmetric=True)
    assert (grid.scale, grid.zero_point, grid.low_code, grid.high_code) == expected


@pytest.mark.parametrize(("low", "high"), [(math.nan, 1), (0, math.inf), (1, 0)])
def test_grid_from_range_of_no_range_raises(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="no grid"):
        Grid.from_range(low, high, signed=False, symmetric=False)


@pytest.mark.parametrize("codes", [(0, -1, 255), (300, 0, 255), (0, -128, 255), (0, 0, 256)])
def test_grid_with_codes_that_do_not_fit_raises(codes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"grid|codes"):
        Grid(0.1, *codes)
