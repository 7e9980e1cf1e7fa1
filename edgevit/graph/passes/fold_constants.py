"""Compute what depends only on constants: transposed weights, reshape targets, expanded biases.

onnxscript's folder does the work. It is asked only to fold; its rewriter would also join the two transposes in
front of q·kᵀ into one, which OpenVINO then executes as a copy instead of reading k transposed.
"""

from __future__ import annotations

import logging

from edgevit.core.pass_record import PassRecord
from edgevit.graph.graph import Graph
from edgevit.graph.opset import restate_opset

# Weights are constants too: the limits only keep a folder from growing a small input without bound.
LIMIT_BYTES = 1 << 31
FOLDED_OPSET = 18
"""The folder writes Split as this opset has it, whatever the graph's own."""


def fold_constants(graph: Graph) -> PassRecord:
    """Fold in place; exact, since the same operators compute the same numbers once instead of at every run."""
    import onnx_ir.passes.common as common
    from onnxscript import optimizer

    before = sum(1 for _ in graph.model.graph)
    logging.getLogger("onnxscript.optimizer").setLevel(logging.ERROR)
    optimizer.fold_constants(graph.model, input_size_limit=LIMIT_BYTES, output_size_limit=LIMIT_BYTES)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph.model)
    common.RemoveUnusedNodesPass()(graph.model)
    opset = graph.model.graph.opset_imports[""]
    if opset < FOLDED_OPSET:
        restate_opset(graph, opset)
    after = sum(1 for _ in graph.model.graph)
    applied = (f"{before - after} nodes",) if after < before else ()
    return PassRecord("fold_constants", "graph", applied)
