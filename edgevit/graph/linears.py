"""Linears in a graph: their weights and biases, and what they read behind ops that only move numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import onnx_ir as ir

from edgevit.graph.convolutions import CONVOLUTIONS
from edgevit.graph.graph import operand
from edgevit.graph.moves import LAYOUT_OPS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

AFFINE_SUFFIXES = ("/center", "/factor")
"""Of the names of the nodes that move and scale an activation in front of its quantiser."""

STACK = "what it multiplies by is a constant for every head, and no matrix of weights"
"""Why such a MatMul stays float: values that follow from no image, as in a detector's first decoder layer."""


def trace_layout(value: ir.Value) -> ir.Value:
    """Back through ops that only move numbers, to the value that was computed."""
    producer = value.producer()
    while producer is not None and producer.op_type in LAYOUT_OPS and operand(producer).const_value is None:
        value = operand(producer)
        producer = value.producer()
    return value


def find_bias(node: ir.Node) -> ir.Node | None:
    """The Add of a constant vector, where nothing else reads the Linear's output."""
    readers = [use.node for use in node.outputs[0].uses()]
    if len(readers) != 1 or readers[0].op_type != "Add":
        return None
    constants = [v for v in readers[0].inputs if v is not None and v.const_value is not None]
    return readers[0] if constants and len(constants[0].shape or ()) == 1 else None


def find_bias_value(node: ir.Node) -> ir.Value | None:
    """The initializer of a Linear's bias: of the Add behind it, or Gemm's own."""
    if node.op_type in ("Gemm", *CONVOLUTIONS):
        return node.inputs[2] if len(node.inputs) > 2 else None
    add = find_bias(node)
    if add is None:
        return None
    return next(v for v in add.inputs if v is not None and v.const_value is not None)


def is_transposed(node: ir.Node) -> bool:
    """Whether a Linear's weight is stored ``(N, K)``."""
    return node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1


def read_weight(node: ir.Node) -> npt.NDArray[np.float32] | None:
    """A Linear's weight as ``(K, N) float32``; ``None`` for a product of two activations."""
    value = node.inputs[1]
    if value is None or value.const_value is None:
        return None
    weight = value.const_value.numpy()
    return weight.T if is_transposed(node) else weight


def weight_of(node: ir.Node) -> npt.NDArray[np.float32]:
    """The weight of a node that is known to be a Linear, ``(K, N) float32``."""
    weight = read_weight(node)
    assert weight is not None, f"{node.name} is a product of two activations"
    return weight


def change_constant(
    value: ir.Value | None, change: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.floating]]
) -> None:
    """Put other numbers into an initializer, in float32."""
    assert value is not None
    assert value.const_value is not None, f"{value.name} is computed"
    value.const_value = ir.tensor(change(value.const_value.numpy()).astype("float32"), name=value.name)
