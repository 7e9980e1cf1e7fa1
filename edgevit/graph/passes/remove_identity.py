"""Remove nodes whose result is their input.

Cases:
1. Identity, and Dropout that does not train and whose mask nobody reads.
2. Cast to the type that the input has.
3. Reshape or Expand to the shape that the input has, where it is static.
4. Transpose that keeps the order.
5. Tile by ones.
6. Where whose constant test chooses one of its inputs everywhere, as a mask of padding does that an image of fixed size
   has none of, and that input has the result's shape.

A node whose result is an output of the graph stays, since the output's name belongs to it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevit.core.pass_record import PassRecord
from edgevit.graph.graph import Graph, constant_of, operand, static_shape
from edgevit.graph.movement import trains


def remove_identity(graph: Graph) -> PassRecord:
    """Rewrite in place; exact."""
    applied = []
    for node in list(graph.model.graph):
        if not node.outputs or node.outputs[0].is_graph_output():
            continue
        source = _find_chosen(node) if node.op_type == "Where" else operand(node) if _is_identity(node) else None
        if source is None:
            continue
        node.outputs[0].replace_all_uses_with(source)
        graph.model.graph.remove(node, safe=True)
        applied.append(node.name or "")
    return PassRecord("remove_identity", "graph", tuple(applied))


def _is_identity(node: ir.Node) -> bool:
    source, result = node.inputs[0] if node.inputs else None, node.outputs[0]
    if source is None:
        return False
    if node.op_type == "Identity":  # case 1
        return True
    if node.op_type == "Dropout":
        return not trains(node) and not any(v.uses() for v in node.outputs[1:])
    if node.op_type == "Cast":  # case 2
        return source.dtype is not None and source.dtype.value == node.attributes.get_int("to")
    if node.op_type in ("Reshape", "Expand"):  # case 3
        shape = static_shape(source)
        return shape is not None and shape == static_shape(result)
    if node.op_type == "Transpose":  # case 4
        perm = node.attributes.get_ints("perm")
        return perm is not None and list(perm) == sorted(perm)
    if node.op_type == "Tile":  # case 5
        repeats = constant_of(node.inputs[1])
        return repeats is not None and bool(np.all(repeats == 1))
    return False


def _find_chosen(node: ir.Node) -> ir.Value | None:
    """The input that a Where gives everywhere (case 6)."""
    test = constant_of(node.inputs[0])
    if test is None or not (test.all() or not test.any()):
        return None
    chosen, shape = operand(node, 1 if test.all() else 2), static_shape(node.outputs[0])
    return chosen if chosen.const_value is None and shape is not None and static_shape(chosen) == shape else None
