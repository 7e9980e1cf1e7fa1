"""Fit a product of two activations, or of a map and the constant matrix that resizes it: the grids of both operands."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from edgevit.graph.carried import CARRIED
from edgevit.graph.graph import constant_of, is_made_by, operand
from edgevit.graph.linears import trace_layout
from edgevit.quantize.grid import Grid
from edgevit.quantize.methods.operand_range import OperandRange
from edgevit.quantize.methods.probability_gain import choose_gain, expect_largest
from edgevit.quantize.placement import Placement
from edgevit.quantize.plan import SitePlan

_HEADROOM = 1.1  # of operands, for images not seen: clipping costs more there than a coarser step


def resizes_map(node: ir.Node) -> bool:
    """Whether a product resizes a map along an axis, as :mod:`edgevit.graph.passes.split_convolution` states it.

    It multiplies by a constant on its left what a convolution, or another such product, has computed.
    """
    matrix = constant_of(node.inputs[0]) if node.op_type == "MatMul" else None
    if matrix is None or matrix.ndim != 2 or not (node.name or "").startswith(CARRIED):
        return False
    producer = trace_layout(operand(node, 1)).producer()
    return producer is not None and (producer.op_type == "Conv" or resizes_map(producer))


def fit_product(
    node: ir.Node,
    seen: Mapping[str, OperandRange],
    placement: Placement,
    *,
    row_gain: bool = True,
    judged: bool = False,
) -> SitePlan:
    """A product's plan. Operands keep their whole range.

    An error of a query or a key is multiplied by every key or query; what clipping the few largest costs there is far
    more than a finer step wins.

    Args:
        node: The product.
        seen: By name, what calibration saw of the operands that are computed.
        placement: The engine library's grids.
        row_gain: The recipe's.
        judged: The plan is measured with the images that judge: of probabilities only what the others had counts.
    """
    names = tuple(trace_layout(operand(node, place)).name or "" for place in (0, 1))
    second = _make_grid(placement, seen[operand(node, 1).name or ""])
    matrix = constant_of(node.inputs[0])
    if matrix is not None:
        return SitePlan(names, (Grid.from_range(placement.product, float(matrix.min()), float(matrix.max())), second))
    first = seen[operand(node).name or ""]
    if not is_made_by(node.inputs[0], "Softmax"):
        return SitePlan(names, (_make_grid(placement, first), second))
    # A mere gain per head is moved behind the transpose by OpenVINO and then refused as a scale per channel.
    rows = first.unjudged_rows if judged else first.rows
    gain = choose_gain(rows) if rows.shape[1] > 1 and row_gain else None
    expected = expect_largest(rows)
    high = float((expected if gain is None else expected * gain[0, :, :, 0]).max())
    return SitePlan(names, (Grid.from_range(placement.probability, 0.0, high), second), gain=gain)


def _make_grid(placement: Placement, seen: OperandRange) -> Grid:
    return Grid.from_range(placement.product, _HEADROOM * seen.low, _HEADROOM * seen.high)
