"""Quantised weights as float constants behind a QuantizeLinear, the form that TensorRT 8.6 takes.

TensorRT 10 takes int8 constants in front of a DequantizeLinear. TensorRT 8.6 parses them and then fails inside the
builder (``convertMyelinWeightsToFp32 … Assertion params.weights.type() != DataType::kINT8``, seen with 8.6.0 on an
H100): it quantises float constants itself.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevit.graph.graph import Graph, constant_of


def restate_weights(graph: Graph) -> int:
    """Put float32 constants and a QuantizeLinear in place of int8 constants, in place; the codes stay the same.

    A code times its scale, rounded to float32 and divided by the scale, is off by some 2^-23 of itself: it rounds to
    the code again.

    Args:
        graph: With Q/DQ pairs of float32 scales and zero points of 0.

    Returns:
        The number of weights.
    """
    inner = graph.model.graph
    count = 0
    for node in list(inner):
        codes = node.inputs[0] if node.op_type == "DequantizeLinear" else None
        if codes is None or codes.const_value is None or codes.dtype != ir.DataType.INT8:
            continue
        numbers, factors = codes.const_value.numpy(), constant_of(node.inputs[1])
        assert factors is not None
        if factors.ndim:
            axis = node.attributes.get_int("axis", 1)
            factors = factors.reshape([-1 if place == axis % numbers.ndim else 1 for place in range(numbers.ndim)])
        weight = graph.add_constant(f"{codes.name}.float", numbers.astype(np.float32) * factors)
        quantize = ir.node(
            "QuantizeLinear",
            [weight, *node.inputs[1:]],
            attributes={key: value for key, value in node.attributes.items() if key == "axis"},
            name=f"{node.name}/quantize",
        )
        quantize.outputs[0].shape = ir.Shape(numbers.shape)
        quantize.outputs[0].type = ir.TensorType(ir.DataType.INT8)
        inner.insert_before(node, quantize)
        node.replace_input_with(0, quantize.outputs[0])
        if not codes.uses():
            inner.initializers.pop(codes.name or "", None)
        count += 1
    return count
