"""Give every Reshape a constant target.

With a dynamic batch the exporter computes targets from shapes at run time. Where at most one dimension of the result is
unknown, ``-1`` says the same, and the Shape, Gather and Concat nodes in front of it go.
"""

from __future__ import annotations

import numpy as np

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.graph.graph import Graph


def fold_reshape_target(graph: Graph) -> PassRecord:
    """Rewrite in place; exact."""
    import onnx_ir as ir
    import onnx_ir.passes.common as common

    applied: list[str] = []
    skipped: list[Skip] = []
    for node in graph.model.graph:
        if node.op_type != "Reshape" or graph.constant(node.inputs[1]) is not None:
            continue
        shape = node.outputs[0].shape
        dims = [d if isinstance(d, int) else -1 for d in shape] if shape is not None else []
        site = node.name or ""
        if not dims or dims.count(-1) > 1:
            skipped.append(Skip(site, "more than one dimension of the result is unknown"))
            continue
        target = ir.tensor(np.asarray(dims, np.int64), name=f"{site}/target")
        value = ir.Value(name=target.name, const_value=target, shape=ir.Shape([len(dims)]))
        value.dtype = ir.DataType.INT64
        graph.model.graph.register_initializer(value)
        node.replace_input_with(1, value)
        applied.append(site)
    common.RemoveUnusedNodesPass()(graph.model)
    return PassRecord("fold_reshape_target", "graph", tuple(applied), tuple(skipped))
