"""Centre keys and values before they are quantised; exact in float.

A constant added to every key adds the same number to all scores of a query, which softmax does not see; so each key
channel's mean is taken out of the key projection's bias. The rows of softmax sum to one, so the values' means pass
through unchanged: they move from the value projection's bias into the output projection's. What is left is symmetric
about zero, and errors of the quantised probabilities are no longer multiplied by the values' means.

Keys that are rotated by their places keep their mean: turned, it is another constant for every key.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.graph.graph import operand
from edgevit.graph.linears import change_constant, find_bias_value, read_weight, trace_layout, weight_of
from edgevit.graph.moves import LAYOUT_OPS
from edgevit.graph.patterns.rotation import Rotation, find_rotation


@dataclass(frozen=True)
class Attention:
    """The Linears around one attention.

    Attributes:
        scores: The first product.
        keys: With a bias.
        values: With a bias.
        output: Reads the second product.
        rotation: Of the keys by their places, between Linear and product.
    """

    scores: ir.Node
    keys: ir.Node
    values: ir.Node
    output: ir.Node
    rotation: Rotation | None = None


def find_attention(context: ir.Node) -> Attention | None:
    """The Linears around the attention whose second product is ``context``; ``None`` where biases are missing."""
    softmax = context.inputs[0].producer() if context.inputs[0] is not None else None
    values = find_linear(context.inputs[1])
    scores = softmax
    while scores is not None and scores.op_type != "MatMul":
        scores = scores.inputs[0].producer() if scores.inputs[0] is not None else None
    turned = find_rotation(operand(scores, 1)) if scores is not None else None
    keys = find_linear(turned.source if turned is not None else scores.inputs[1]) if scores is not None else None
    output = context
    while True:
        readers = [use.node for use in output.outputs[0].uses()]
        if len(readers) != 1:
            return None
        output = readers[0]
        if output.op_type not in LAYOUT_OPS:
            break
    if scores is None or keys is None or values is None or softmax is None or softmax.op_type != "Softmax":
        return None
    if output.op_type not in ("MatMul", "Gemm"):
        return None
    if any(read_weight(n) is None or find_bias_value(n) is None for n in (keys, values, output)):
        return None
    return Attention(scores, keys, values, output, turned)


def find_linear(value: ir.Value | None) -> ir.Node | None:
    """The Linear with a bias that computes a value, behind layout ops."""
    add = trace_layout(value).producer() if value is not None else None
    if add is None or add.op_type != "Add":
        return None
    found = [v.producer() for v in add.inputs if v is not None and v.producer() is not None]
    return found[0] if len(found) == 1 and found[0] is not None and found[0].op_type == "MatMul" else None


def center_attention(
    attention: Attention, key_mean: npt.NDArray[np.float32], value_mean: npt.NDArray[np.float32]
) -> None:
    """Change the three biases in place, or two of them.

    Args:
        attention: Its Linears.
        key_mean: ``(C,)`` of the keys with their bias; not used where they are rotated.
        value_mean: ``(C,)`` of the values with theirs.
    """
    shift = value_mean.astype(np.float64) @ weight_of(attention.output).astype(np.float64)
    changes = [(attention.values, -value_mean), (attention.output, shift)]
    if attention.rotation is None:
        changes.append((attention.keys, -key_mean))
    for node, change in changes:
        change_constant(find_bias_value(node), functools.partial(np.add, change))
