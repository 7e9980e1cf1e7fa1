"""Give every Reshape a constant target.

With a dynamic batch the exporter computes targets from shapes at run time. Where at most one dimension of the result is
unknown, ``-1`` says the same, and the Shape, Gather and Concat nodes in front of it go.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevit.core.pass_record import PassRecord
from edgevit.graph.graph import Graph, constant_of
from edgevit.graph.passes.visit import visit_nodes
from edgevit.graph.patterns.pieces import MismatchError


def fold_reshape_target(graph: Graph) -> PassRecord:
    """Rewrite in place; exact."""

    def rewrite(node: ir.Node) -> bool:
        if node.op_type != "Reshape" or constant_of(node.inputs[1]) is not None:
            return False
        dims = [d if isinstance(d, int) else -1 for d in node.outputs[0].shape or ()]
        if not dims or dims.count(-1) > 1:
            raise MismatchError(node, "more than one dimension of the result is unknown")
        node.replace_input_with(1, graph.add_constant(f"{node.name}/target", np.asarray(dims, np.int64)))
        return True

    return visit_nodes(graph, "fold_reshape_target", rewrite)
