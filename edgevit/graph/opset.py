"""What differs between opsets in the ops that edgevit's graphs consist of.

Folding constants writes some nodes as opset 18 has them: in opset 17, which TensorRT 8.6 reads, they are not valid. The
other way, a compiler that wants opset 19 for float16 scales reads a graph of opset 17 once the ops that changed are
restated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgevit.core.errors import CompileError, format_offenders
from edgevit.graph.graph import Graph

_AXES_OPS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2")  # axes: an attribute before 18, an input since
_CHANGED_OPS = ("Resize", "GroupNormalization", "ScatterElements", "ScatterND", "BitShift")


def restate_opset(graph: Graph, opset: int) -> None:
    """Make a graph that says another opset, 17 to 20, valid in it; what it computes stays the same.

    Args:
        graph: Changed; of edgevit's own ops.
        opset: The opset to have.

    Raises:
        CompileError: It has ops that changed between the two and are not known here; all are listed.
    """
    inner = graph.model.graph
    changed = [f"{n.name}: {n.op_type}" for n in inner if n.op_type in _CHANGED_OPS or _is_later_pad(n, opset)]
    if changed:
        raise CompileError(
            f"the graph cannot be restated in opset {opset}:\n{format_offenders(changed)}", "export it in that opset"
        )
    for node in list(inner):
        if node.op_type == "Split":
            _restate_split(graph, node, opset)
        elif node.op_type in _AXES_OPS:
            _restate_axes(graph, node, opset)
    inner.opset_imports[""] = opset


def _is_later_pad(node: ir.Node, opset: int) -> bool:
    """Pad has axes as an input since 18, and the mode wrap since 19; as edgevit writes it, it has neither."""
    if node.op_type != "Pad":
        return False
    mode = node.attributes.get_string("mode", "constant")
    return (opset < 18 and len(node.inputs) > 3 and node.inputs[3] is not None) or (opset < 19 and mode == "wrap")


def _restate_split(graph: Graph, node: ir.Node, opset: int) -> None:
    """``num_outputs`` is of 18; sizes as an input are valid in all."""
    if "num_outputs" not in node.attributes or opset >= 18:
        return
    value, count = node.inputs[0], len(node.outputs)
    axis = node.attributes.get_int("axis", 0)
    size = value.shape[axis] if value is not None and value.shape is not None else None
    if not isinstance(size, int):
        raise CompileError(f"{node.name} splits an axis of unknown length", f"export it in opset 18 instead of {opset}")
    step = -(-size // count)
    del node.attributes["num_outputs"]
    _set_second(graph, node, "lengths", [min(step, size - place * step) for place in range(count)])


def _restate_axes(graph: Graph, node: ir.Node, opset: int) -> None:
    given = node.inputs[1] if len(node.inputs) > 1 else None
    if opset >= 18 and "axes" in node.attributes:
        axes = list(node.attributes["axes"].as_ints())
        del node.attributes["axes"]
        _set_second(graph, node, "axes", axes)
    elif opset < 18 and given is not None and given.const_value is not None:
        node.attributes["axes"] = ir.AttrInt64s("axes", [int(axis) for axis in given.const_value.numpy().ravel()])
        node.resize_inputs(1)
        node.attributes.pop("noop_with_empty_axes", None)
        if not given.uses():
            graph.model.graph.initializers.pop(given.name or "", None)


def _set_second(graph: Graph, node: ir.Node, what: str, numbers: Sequence[int]) -> None:
    value = graph.add_constant(f"{node.outputs[0].name}.{what}", np.asarray(numbers, np.int64))
    node.resize_inputs(2)
    node.replace_input_with(1, value)
