"""What a site of a graph reads: the image itself, tokens of a tap, or what may be scaled for it."""

from __future__ import annotations

import math

import onnx_ir as ir

from edgevit.graph.graph import is_made_by, operand, static_shape
from edgevit.graph.linears import trace_layout
from edgevit.graph.moves import RESHAPES


def reads_image(node: ir.Node) -> bool:
    """Whether a Linear's input is the uint8 image itself."""
    return is_made_by(node.inputs[0], "Cast")


def count_rows(node: ir.Node) -> float:
    """Of a Linear's input a call; infinite where a dimension is not known."""
    shape = static_shape(node.inputs[0])
    return math.inf if shape is None else math.prod(shape[:-1])


def find_tap(node: ir.Node) -> str:
    """The value whose tokens a Linear is fitted on: its input, traced back to where it was computed.

    Heads are put side by side between attention's product and the output projection: a row of the product is no token.
    """
    value = operand(node)
    source = trace_layout(value)
    moved = source.shape is None or value.shape is None or source.shape[-1] != value.shape[-1]
    return (value.name if moved or reads_image(node) else source.name) or ""


def keeps_rows(node: ir.Node) -> bool:
    """Whether a Linear reads the tokens of its tap in their order."""
    value, tap = node.inputs[0], find_tap(node)
    while value is not None and value.name != tap:
        producer = value.producer()
        if producer is None or producer.op_type not in (*RESHAPES, "Identity"):
            return False
        value = producer.inputs[0]
    return True


def may_scale(source: ir.Value) -> bool:
    """Whether factors may stand in front of the quantiser: behind an activation function that one Linear reads."""
    return is_made_by(source, "Gelu", "Relu", "Mul") and len(source.uses()) == 1
