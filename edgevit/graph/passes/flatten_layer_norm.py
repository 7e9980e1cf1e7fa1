"""Give a LayerNormalization of a map the rows of the map, ``(B, H·W, C)`` in place of ``(B, H, W, C)``.

Norms over the channels of a convolution's map are written ``Transpose → LayerNormalization → Transpose``. OpenVINO
computes one of rank 4 by four kernels, and keeps the map in the convolution's own layout between them, so that it is
reordered too; one of rank 3 by one kernel. RF-DETR nano's nine took 5 of 50 ms. The Reshapes cost nothing.

Scope: norms of the last axis, of static shape; those whose result is an output of the graph stay.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgevit.core.pass_record import PassRecord
from edgevit.graph.builder import Builder
from edgevit.graph.graph import Graph, operand, static_shape
from edgevit.graph.passes.visit import visit_nodes


def flatten_layer_norm(graph: Graph) -> PassRecord:
    """Rewrite in place; exact."""
    return visit_nodes(graph, "flatten_layer_norm", lambda node: _rewrite(graph, node))


def _rewrite(graph: Graph, node: ir.Node) -> bool:
    if node.op_type != "LayerNormalization":
        return False
    shape, old = static_shape(operand(node)), node.outputs[0]
    if shape is None or len(shape) != 4 or node.attributes.get_int("axis", -1) not in (-1, 3):
        return False
    if old.is_graph_output() or any(value.uses() for value in node.outputs[1:]):
        return False
    build = Builder(graph, node.name or "norm", node)
    rows = build.reshape(operand(node), (shape[0], math.prod(shape[1:3]), shape[3]), "rows")
    attributes = {name: item.value for name, item in node.attributes.items()} | {"axis": -1}
    inputs = [rows, *(value for value in node.inputs[1:] if value is not None)]
    normed = build.add("LayerNormalization", inputs, "normed", rows.shape, **attributes)
    target = build.constant("map.shape", np.asarray(shape, np.int64))
    build.insert(node, old, build.add("Reshape", [normed, target], "map", shape))
    return True
