"""State an Einsum of queries with a map as a MatMul, where the map's channels lay last before a Transpose.

``bqc, bchw -> bqhw`` is how masks are drawn. Engines bring the map to ``(B, C, H · W)`` for it, which turns all of it;
as a MatMul with what was in front of the Transpose, ``(B, H · W, C)``, its kernel reads the channels where they lie.
An Einsum whose second operand no Transpose has made is left alone.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from edgevit.core.pass_record import PassRecord
from edgevit.graph.builder import Builder
from edgevit.graph.graph import Graph, is_made_by, operand, producer_of, static_shape
from edgevit.graph.passes.visit import visit_nodes
from edgevit.graph.patterns.pieces import MismatchError


def restate_einsum(graph: Graph) -> PassRecord:
    """Rewrite in place; exact to rounding."""

    def rewrite(node: ir.Node) -> bool:
        if node.op_type != "Einsum" or len(node.inputs) != 2 or not is_made_by(node.inputs[1], "Transpose"):
            return False
        turned, left = producer_of(node.inputs[1]), static_shape(node.inputs[0])
        assert turned is not None
        source, target = operand(turned), static_shape(node.outputs[0])
        before = static_shape(source)
        if left is None or before is None or target is None:
            raise MismatchError(node, "its sizes are not static")
        order = [int(axis) for axis in turned.attributes.get_ints("perm") or reversed(range(len(before)))]
        if not _is_product(node.attributes.get_string("equation", ""), order):
            raise MismatchError(node, "it is no product of queries with the places of a map")
        places = math.prod(before[1:-1])
        build = Builder(graph, node.name or node.op_type, node)
        value = build.reshape(source, [before[0], places, before[-1]], "places")
        value = build.add("Transpose", [value], "turned", [before[0], before[-1], places], perm=[0, 2, 1])
        value = build.add("MatMul", [operand(node), value], "product", [*left[:2], places])
        build.insert(node, node.outputs[0], build.reshape(value, target, "map"))
        return True

    return visit_nodes(graph, "restate_einsum", rewrite)


def _is_product(equation: str, order: list[int]) -> bool:
    """Whether it is ``bqc, bc… -> bq…``, and the Transpose in front of it takes ``b…c``."""
    equation = equation.replace(" ", "")
    operands, _, result = equation.partition("->")
    first, _, second = operands.partition(",")
    if len(first) != 3 or len(set(first)) != 3 or len(second) != len(order):
        return False
    batch, query, channel = first[0], first[1], first[2]
    axes = dict(zip(order, second, strict=True))
    lying = "".join(axes[axis] for axis in range(len(order)))  # as in front of the Transpose
    inner = lying[1:-1]
    distinct = len(set(lying + query)) == len(lying) + 1
    return distinct and lying == batch + inner + channel and result == batch + query + inner
