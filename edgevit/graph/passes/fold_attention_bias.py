"""Combine what is added to attention's scores: position bias and mask become one constant, at the scores' own rank.

Swin's exports reshape the scores to rank 5 to add a mask per window, which takes the pattern away from every engine's
fused attention. This is for attention that :mod:`edgevit.graph.passes.fuse_attention` did not bring to form, as its
queries or keys are not plain projections; the rest has one constant already.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevit.core.pass_record import PassRecord
from edgevit.graph.builder import Builder
from edgevit.graph.graph import Graph, known_shape, static_shape
from edgevit.graph.movement import View
from edgevit.graph.passes.visit import visit_nodes
from edgevit.graph.patterns.pieces import MismatchError, look


def fold_attention_bias(graph: Graph) -> PassRecord:
    """Rewrite in place; exact to rounding."""

    def rewrite(node: ir.Node) -> bool:
        if node.op_type != "Softmax" or node.inputs[0] is None:
            return False
        view = look(node.inputs[0])
        kinds = [n.op_type for n in view.nodes]
        scalings = kinds.count("Mul") + kinds.count("Div")
        if view.source is None or not {"Add", "Sub"} & set(kinds) or len(kinds) <= 1 + scalings:
            return False
        if reason := _refuse(view, node):
            raise MismatchError(node, reason)
        _rebuild(graph, node, view)
        return True

    return visit_nodes(graph, "fold_attention_bias", rewrite)


def _refuse(view: View, node: ir.Node) -> str | None:
    rank = len(view.shape)
    axis = node.attributes.get_int("axis", -1)
    source = static_shape(view.source)
    if not isinstance(view.scale, float):
        return "scores are scaled by more than one number"
    if axis not in (-1, rank - 1) or source is None or source[-1] != view.shape[-1] or not view.is_flat:
        return "scores are rearranged before the softmax"
    return "attention's weights are an output of the graph" if node.outputs[0].is_graph_output() else None


def _rebuild(graph: Graph, node: ir.Node, view: View) -> None:
    assert view.source is not None
    assert view.offset is not None
    assert isinstance(view.scale, float)
    shape = known_shape(view.source)
    build = Builder(graph, node.name or "", node)
    scores = view.source
    if view.scale != 1.0:
        factor = build.constant("scale", np.asarray(view.scale, np.float32))
        scores = build.add("Mul", [scores, factor], "scaled", shape)
    bias = view.offset.reshape(shape).astype(np.float32)
    for axis in range(len(shape) - 2):  # what is the same for every window or head is stated once
        first = bias.take([0], axis)
        bias = first if bool((bias == first).all()) else bias
    scores = build.add("Add", [scores, build.constant("bias", bias)], "biased", shape)
    made = build.add("Softmax", [scores], "softmax", shape, axis=-1)
    build.insert(node, node.outputs[0], build.reshape(made, view.shape, "shaped"))
