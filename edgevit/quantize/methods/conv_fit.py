"""Fit a convolution of what surrounds an encoder: its input's grid, its kernel and its bias.

Scales of the kernel are per output channel (Krishnamoorthi, 2018, arXiv:1806.08342, section 3.1); the bias keeps the
mean of every output channel (Nagel et al., 2019, arXiv:1906.04721, section 4.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.graph.convolutions import read_kernel, shape_kernel
from edgevit.graph.graph import Graph, constant_of, operand
from edgevit.graph.segments import Segment, SegmentRunner, extract_segment
from edgevit.quantize.grid import Grid
from edgevit.quantize.methods.gptq import LARGEST_CODE
from edgevit.quantize.methods.weight_pairs import limit_pairs
from edgevit.quantize.methods.weight_scale import choose_weight_scale
from edgevit.quantize.observers import OBSERVERS
from edgevit.quantize.placement import GridKind, Placement
from edgevit.quantize.plan import QuantizationPlan, SitePlan, apply_plan
from edgevit.quantize.statistics import TensorStatistics

Values = npt.NDArray[np.float32]


def fit_conv(
    node: ir.Node, source: str, statistics: TensorStatistics, inputs: Sequence[Values], placement: Placement
) -> SitePlan:
    """A convolution's plan.

    Args:
        node: With a constant kernel and channels in one group.
        source: Name of the value that is quantised for it.
        statistics: What calibration saw of its input.
        inputs: Some of them, ``(B, C, h, w) float32``, for the mean of its output.
        placement: The engine library's grids.
    """
    kernel, weight = constant_of(node.inputs[1]), read_kernel(node)
    assert kernel is not None
    assert weight is not None
    kind = choose_kind(node, statistics, placement)
    grid = Grid.from_range(kind, *OBSERVERS["mse"](statistics, kind, 1.0))
    scale = choose_weight_scale(weight, paired=placement.paired_weights)
    codes = np.clip(np.rint(weight / scale), -LARGEST_CODE, LARGEST_CODE)
    codes = limit_pairs(codes) if placement.paired_weights else codes
    plan = SitePlan((source,), (grid,), shape_kernel(node, codes.astype(np.int8), kernel.shape), scale)
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return plan
    return SitePlan(plan.inputs, plan.grids, plan.weight, plan.scale, _correct_bias(node, plan, inputs))


def choose_kind(node: ir.Node, statistics: TensorStatistics, placement: Placement) -> GridKind:
    """The input's grid: without a zero point where nothing is below 0, as behind a ReLU.

    OpenVINO runs a transposed convolution in INT8 only where its input has no zero point.
    """
    if placement.linear == "u8" and statistics.low >= 0:
        return "u8_zero"
    return "i8" if node.op_type == "ConvTranspose" else placement.linear


def _correct_bias(node: ir.Node, plan: SitePlan, inputs: Sequence[Values]) -> Values:
    bias = constant_of(node.inputs[2])
    assert bias is not None
    part = extract_segment(Segment((node,), operand(node), node.outputs[0]))
    name = node.name or ""
    exact = _mean(part, inputs)
    quantized = _mean(apply_plan(part, QuantizationPlan({name: plan}, at="consumer"), [name]), inputs)
    corrected: Values = (bias + exact - quantized).astype(np.float32)
    return corrected


def _mean(part: Graph, inputs: Sequence[Values]) -> npt.NDArray[np.float64]:
    """Of every output channel."""
    runner = SegmentRunner(part)
    means = [runner.run(value)[0].mean(axis=(0, 2, 3), dtype=np.float64) for value in inputs]
    mean: npt.NDArray[np.float64] = np.mean(means, axis=0)
    return mean
