"""What breaks one of TensorRT's rules: each changes a typed graph and returns the node and the reason."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevit.graph.graph import Graph
from tests.support.small_graphs import find_node


def first_pair(graph: Graph) -> ir.Node:
    return next(n for n in graph.model.graph if n.op_type == "QuantizeLinear")


def first_quantized(graph: Graph) -> ir.Node:
    return next(
        n
        for n in graph.model.graph
        if n.op_type == "MatMul" and n.inputs[1].producer() and n.inputs[1].producer().op_type == "DequantizeLinear"
    )


def set_constant(value: ir.Value, numbers: np.ndarray) -> None:
    value.const_value = ir.tensor(numbers, name=value.name)
    value.type = ir.TensorType(ir.DataType.from_numpy(numbers.dtype))


def move_zero(graph: Graph) -> tuple[str, str]:
    node = first_pair(graph)
    set_constant(node.inputs[2], np.asarray(3, np.int8))
    return node.name, "zero point is not 0"


def make_unsigned(graph: Graph) -> tuple[str, str]:
    node = first_pair(graph)
    node.outputs[0].type = ir.TensorType(ir.DataType.UINT8)
    return node.name, "no unsigned codes"


def widen_scale(graph: Graph) -> tuple[str, str]:
    node = first_pair(graph)
    set_constant(node.inputs[1], np.asarray(0.5, np.float32))
    return node.name, "its scale is float and its data float16"


def make_negative(graph: Graph) -> tuple[str, str]:
    node = first_pair(graph)
    set_constant(node.inputs[1], np.asarray(-0.5, np.float16))
    return node.name, "not above 0"


def scale_channels(graph: Graph) -> tuple[str, str]:
    node = first_pair(graph)
    set_constant(node.inputs[1], np.full(8, 0.5, np.float16))
    return node.name, "one scale, not 8"


def use_fp8(graph: Graph) -> tuple[str, str]:
    node = first_pair(graph)
    node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT8E4M3FN)
    return node.name, "fp8 begins with compute capability 8.9"


def insert_cast(graph: Graph) -> tuple[str, str]:
    node = first_quantized(graph)
    cast = ir.node("Cast", [node.inputs[1]], {"to": ir.DataType.FLOAT16}, name="planted")
    cast.outputs[0].dtype = ir.DataType.FLOAT16
    graph.model.graph.insert_before(node, cast)
    node.replace_input_with(1, cast.outputs[0])
    return node.name, "Cast (planted) stands between"


def insert_flatten(graph: Graph) -> tuple[str, str]:
    node = first_quantized(graph)
    moved = ir.node("Flatten", [node.inputs[1]], name="planted")
    moved.outputs[0].dtype = node.inputs[1].dtype
    graph.model.graph.insert_before(node, moved)
    node.replace_input_with(1, moved.outputs[0])
    return node.name, "Flatten (planted) stands between"


def use_unknown_op(graph: Graph) -> tuple[str, str]:
    node = next(n for n in graph.model.graph if n.op_type == "Gelu")
    twin = ir.node("FastGelu", [node.inputs[0]], domain="com.microsoft", name=node.name)
    graph.model.graph.insert_before(node, twin)
    for use in list(node.outputs[0].uses()):
        use.node.replace_input_with(use.idx, twin.outputs[0])
    graph.model.graph.remove(node)
    return twin.name, "no operator com.microsoft.FastGelu"


def mix_types(graph: Graph) -> tuple[str, str]:
    node = find_node(graph, next(n.name for n in graph.model.graph if n.op_type == "Add"))
    node.inputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    return node.name, "and nothing casts them"
