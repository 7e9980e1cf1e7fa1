"""Remove the guard that torch's exporter puts behind softmax: ``Where(IsNaN(p), 0, p)``.

It is there for rows of attention that a mask closes altogether, whose probabilities are 0/0. Scores are finite where no
mask is added, or a constant one whose every row has a finite number; then nothing is ever NaN and the guard is an
element-wise kernel for nothing. A mask that is computed, or a row of −∞, leaves it alone.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevit.core.pass_record import PassRecord
from edgevit.graph.graph import Graph, constant_of, producer_of
from edgevit.graph.passes.visit import visit_nodes
from edgevit.graph.patterns.pieces import MismatchError

_SCORES = ("MatMul", "Mul", "Div", "Add", "Reshape", "Cast")


def remove_nan_guard(graph: Graph) -> PassRecord:
    """Rewrite in place; exact for finite inputs."""
    return visit_nodes(graph, "remove_nan_guard", _rewrite)


def _rewrite(node: ir.Node) -> bool:
    guarded = _guarded(node)
    if guarded is None or node.outputs[0].is_graph_output():
        return False
    if reason := _may_be_nan(guarded):
        raise MismatchError(node, reason)
    node.outputs[0].replace_all_uses_with(guarded)
    return True


def _guarded(node: ir.Node) -> ir.Value | None:
    """What ``Where(IsNaN(p), 0, p)`` guards."""
    if node.op_type != "Where" or node.inputs[0] is None:
        return None
    test, zero, value = node.inputs[0].producer(), constant_of(node.inputs[1]), node.inputs[2]
    if test is None or test.op_type != "IsNaN" or test.inputs[0] is not value or zero is None or zero.any():
        return None
    return value


def _may_be_nan(value: ir.Value) -> str | None:
    softmax = value.producer()
    if softmax is None or softmax.op_type != "Softmax":
        return "it guards something else than a softmax"
    axis = softmax.attributes.get_int("axis", -1)
    node = producer_of(softmax.inputs[0])
    while node is not None and node.op_type in _SCORES[1:]:
        constants = [c for v in node.inputs if (c := constant_of(v)) is not None]
        if node.op_type in ("Add", "Mul", "Div") and len(constants) != 1:
            return "what is added to the scores is computed"
        if node.op_type == "Add" and not np.isfinite(constants[0]).any(axis=axis).all():
            return "its mask closes a whole row"
        places = [v for v in node.inputs if v is not None and v.const_value is None]
        node = places[0].producer()
    if node is None or node.op_type != "MatMul":
        return "what it normalises is no product of queries and keys"
    return None
