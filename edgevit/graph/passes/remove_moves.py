"""Remove reshapes and transposes that follow one another.

Cases, of a chain of movements that something else reads:
1. All of it keeps the order of the numbers: one Reshape, or none where the shape is the same as well.
2. One Transpose among reshapes changes the order: that Transpose between two Reshapes at most.
3. Only transposes: one.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevit.core.pass_record import PassRecord
from edgevit.graph.builder import Builder
from edgevit.graph.graph import Graph, known_shape, operand, static_shape
from edgevit.graph.movement import View, identity, step_view, trace
from edgevit.graph.moves import MOVES
from edgevit.graph.passes.visit import visit_nodes


def remove_moves(graph: Graph) -> PassRecord:
    """Rewrite in place; exact."""

    def rewrite(node: ir.Node) -> bool:
        if not ends_moves(node):
            return False
        try:
            view = trace(node.outputs[0], arithmetic=False)
        except ValueError:
            return False
        if view.source is None or not view.moves_alone or len(view.nodes) < 2 or not _is_line(view):
            return False
        return _shorten(graph, node, view)

    return visit_nodes(graph, "remove_moves", rewrite)


def ends_moves(node: ir.Node) -> bool:
    """Whether a node only moves numbers, and something else than a movement reads them."""
    value = node.outputs[0]
    if node.op_type not in MOVES or len(node.outputs) != 1 or value.is_graph_output():
        return False
    return any(use.node.op_type not in MOVES for use in value.uses())


def _is_line(view: View) -> bool:
    """Whether each node reads the one before."""
    value = view.source
    for node in view.nodes:
        if node.inputs[0] is not value or len(node.outputs) != 1:
            return False
        value = node.outputs[0]
    return True


def _shorten(graph: Graph, node: ir.Node, view: View) -> bool:
    assert view.source is not None
    build, value = Builder(graph, node.name or "", node), view.source
    if view.is_flat:  # case 1
        build.insert(node, node.outputs[0], build.reshape(value, view.shape, "shaped"))
        return True
    turns = [n for n in view.nodes if not _keeps_order(n)]
    if all(n.op_type == "Transpose" for n in view.nodes):  # case 3
        order = np.arange(len(view.shape))
        for n in view.nodes:
            order = order[list(n.attributes["perm"].as_ints())]
        made = build.add("Transpose", [value], "turned", view.shape, perm=order.tolist())
        build.insert(node, node.outputs[0], made)
        return True
    if len(turns) != 1 or turns[0].op_type != "Transpose":
        return False
    before, after = known_shape(turns[0].inputs[0]), known_shape(turns[0].outputs[0])
    wanted = 1 + (static_shape(value) != before) + (after != view.shape)
    if wanted >= len(view.nodes):
        return False
    value = build.reshape(value, before, "before")  # case 2
    value = build.add("Transpose", [value], "turned", after, perm=turns[0].attributes["perm"].as_ints())
    build.insert(node, node.outputs[0], build.reshape(value, view.shape, "shaped"))
    return True


def _keeps_order(node: ir.Node) -> bool:
    view = step_view(node, {operand(node): identity(operand(node))})
    return view is not None and view.is_flat
