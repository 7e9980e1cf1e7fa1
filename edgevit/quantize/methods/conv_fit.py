"""Fit a convolution of what surrounds an encoder: its input's grid, its kernel and its bias.

Scales of the kernel are per output channel (Krishnamoorthi, 2018, arXiv:1806.08342, section 3.1); the bias keeps the
mean of every output channel (Nagel et al., 2019, arXiv:1906.04721, section 4.2). A convolution is a Linear of patches,
by which GPTQ rounds its kernel: neighbouring places of a map are much alike, so that it gains much.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.core.quantization import Rounding
from edgevit.graph.convolutions import read_kernel, shape_kernel
from edgevit.graph.graph import Graph, constant_of, operand
from edgevit.graph.segments import Segment, SegmentRunner, extract_segment
from edgevit.quantize.grid import Grid
from edgevit.quantize.methods.gptq import DAMPING, LARGEST_CODE, round_gptq
from edgevit.quantize.methods.moments import Moments, MomentSums
from edgevit.quantize.methods.weight_pairs import limit_pairs
from edgevit.quantize.methods.weight_scale import choose_weight_scale
from edgevit.quantize.observers import OBSERVERS
from edgevit.quantize.placement import GridKind, Placement
from edgevit.quantize.plan import QuantizationPlan, SitePlan, apply_plan
from edgevit.quantize.statistics import TensorStatistics

Values = npt.NDArray[np.float32]

_PATCHES = 10  # for each number of a patch, at most: with fewer a fit is held back in proportion
_LARGEST_PATCH = 4608  # numbers, of 512 channels and a kernel of 3 × 3: their moments take 170 MB


def fit_conv(
    node: ir.Node,
    source: str,
    statistics: TensorStatistics,
    inputs: Sequence[Values],
    placement: Placement,
    rounding: Rounding = "gptq",
) -> SitePlan:
    """A convolution's plan.

    Args:
        node: With a constant kernel and channels in one group.
        source: Name of the value that is quantised for it.
        statistics: What calibration saw of its input.
        inputs: Some of them, ``(B, C, h, w) float32``, for the mean of its output.
        placement: The engine library's grids.
        rounding: The recipe's. Kernels of transposed convolutions and of very large patches go to the nearest.
    """
    kernel, weight = constant_of(node.inputs[1]), read_kernel(node)
    assert kernel is not None
    assert weight is not None
    kind = choose_kind(node, statistics, placement)
    grid = Grid.from_range(kind, *OBSERVERS["mse"](statistics, kind, 1.0))
    paired, has_bias = placement.paired_weights, len(node.inputs) > 2 and node.inputs[2] is not None
    if rounding == "nearest" or node.op_type != "Conv" or len(weight) > _LARGEST_PATCH:
        scale = choose_weight_scale(weight, paired=paired)
        codes = np.clip(np.rint(weight / scale), -LARGEST_CODE, LARGEST_CODE)
        codes = limit_pairs(codes) if paired else codes
    else:
        moments, count = _sum_patches(node, [grid.apply(values) for values in inputs], kernel.shape[2:])
        importance = np.diag(moments.covariance) + moments.mean**2
        scale = choose_weight_scale(weight, importance, paired=paired)
        # The bias answers for the mean, where there is one.
        hessian = moments.covariance if has_bias else moments.covariance + np.outer(moments.mean, moments.mean)
        damping = DAMPING * max(1.0, _PATCHES * len(weight) / count)
        codes = round_gptq(weight, scale, hessian, damping=damping, paired=paired)
    plan = SitePlan((source,), (grid,), shape_kernel(node, codes.astype(np.int8), kernel.shape), scale)
    if not has_bias:
        return plan
    return SitePlan(plan.inputs, plan.grids, plan.weight, plan.scale, _correct_bias(node, plan, inputs))


def _sum_patches(node: ir.Node, maps: Sequence[Values], kernel: Sequence[int]) -> tuple[Moments, int]:
    """Of patches that the convolution reads, as rows of :func:`read_kernel` have them; and how many there were."""
    attributes, (high, wide) = node.attributes, kernel
    top, left, bottom, right = attributes.get_ints("pads") or (0, 0, 0, 0)
    down, along = attributes.get_ints("strides") or (1, 1)
    far, apart = attributes.get_ints("dilations") or (1, 1)
    generator, sums, count = np.random.default_rng(0), MomentSums(), 0
    for values in maps:
        padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right))).transpose(0, 2, 3, 1)
        reach = (far * (high - 1), apart * (wide - 1))
        rows, columns = (
            np.arange(0, size - over, step)
            for size, over, step in zip(padded.shape[1:3], reach, (down, along), strict=True)
        )
        places = len(padded) * len(rows) * len(columns)
        most = -(-_PATCHES * high * wide * padded.shape[3] // len(maps))
        chosen = np.sort(generator.choice(places, min(places, most), replace=False))
        image, row, column = np.unravel_index(chosen, (len(padded), len(rows), len(columns)))
        taken = [
            padded[image, rows[row] + i * far, columns[column] + j * apart] for i in range(high) for j in range(wide)
        ]
        sums.add(np.concatenate(taken, axis=1))
        count += len(chosen)
    return sums.finish(), count


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
