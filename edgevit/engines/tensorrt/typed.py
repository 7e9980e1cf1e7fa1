"""type_graph: the strongly typed form of a graph, in which every tensor's type says how it is computed.

TensorRT 11 takes no other, and 10.3 and later take it too (``NetworkDefinitionCreationFlag.STRONGLY_TYPED``): precision
lies in the graph, and no builder flag changes it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import onnx_ir as ir

from edgevit.core.errors import CompileError, format_offenders
from edgevit.graph.graph import Graph, operand
from edgevit.graph.half_range import LARGEST_HALF, find_whole_numbers, is_wide
from edgevit.graph.linears import AFFINE_SUFFIXES, trace_layout

Arithmetic: TypeAlias = Literal["fp32", "fp16"]

_SMALLEST_HALF = 2.0**-24
_HALF_SCALES_OPSET = 19
"""The first opset in which QuantizeLinear and DequantizeLinear take float16 scales."""
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


def type_graph(graph: Graph, arithmetic: Arithmetic) -> Graph:
    """A graph whose float tensors all have one type; Q/DQ pairs stay what they are, with scales of that type.

    The image is cast first, because TensorRT moves no unsigned bytes; LayerNormalization keeps its float32
    accumulation (``stash_type``). The head, a Linear of one row, is float32 as the logits are, unless it is quantised;
    so is what :func:`edgevit.graph.half_range.mark_wide` marked.

    Args:
        graph: ``image (B, H, W, 3) uint8`` to logits, an embedding or features, its floats float32; not changed.
        arithmetic: The type that what is not quantised is computed in.

    Raises:
        CompileError: A weight or a scale does not fit float16, or the opset knows no float16 scales; all are listed.
    """
    result = graph.copy()
    _cast_image_first(result)
    if arithmetic == "fp16":
        wide = _find_wide(result)
        _refuse(result, wide)
        _halve(result, wide)
    return result


def _cast_image_first(graph: Graph) -> None:
    inner = graph.model.graph
    image = inner.inputs[0]
    casts = [n for n in inner if n.op_type == "Cast" and n.inputs[0] and _trace_bytes(n.inputs[0]) is image]
    if len(casts) != 1 or casts[0].inputs[0] is image:
        return
    cast, out = casts[0], casts[0].outputs[0]
    moved = operand(cast)
    readers = list(image.uses())
    for use in list(out.uses()):
        use.node.replace_input_with(use.idx, moved)
    inner.remove(cast)
    cast.replace_input_with(0, image)
    inner.insert_before(readers[0].node, cast)
    for use in readers:
        use.node.replace_input_with(use.idx, out)
    out.shape = image.shape
    for node in inner:  # what moved bytes moves floats now
        for value in node.outputs:
            if value.dtype == ir.DataType.UINT8:
                _set_type(value, ir.DataType.FLOAT)


def _trace_bytes(value: ir.Value) -> ir.Value:
    """Back through what only moves numbers, and through zeros that are written around them, which any type has."""
    value = trace_layout(value)
    producer = value.producer()
    while (
        producer is not None and producer.op_type == "Pad" and (len(producer.inputs) < 3 or producer.inputs[2] is None)
    ):
        value = trace_layout(operand(producer))
        producer = value.producer()
    return value


def _refuse(graph: Graph, wide: set[ir.Node]) -> None:
    offenders = []
    quantizers = [node for node in graph.model.graph if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    opset = graph.model.graph.opset_imports.get("", 0)
    if quantizers and opset < _HALF_SCALES_OPSET:
        offenders.append(f"opset {opset}: float16 scales begin with opset {_HALF_SCALES_OPSET}")
    scales = {node.inputs[1].name for node in quantizers if node.inputs[1] is not None}
    for name, value in graph.model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or not tensor.size:
            continue
        if all(use.node in wide for use in value.uses()):
            continue
        numbers = np.abs(tensor.numpy())
        if all(use.node.op_type == "Where" for use in value.uses()):  # an infinity that is chosen is one in float16 too
            numbers = np.where(np.isinf(numbers), 0, numbers)
        if not numbers.max() <= LARGEST_HALF:  # also where it is not a number
            offenders.append(f"{name} holds {numbers.max():g}, beyond float16's {LARGEST_HALF:g}")
        elif name in scales and numbers.min() < _SMALLEST_HALF:
            offenders.append(f"{name} holds {numbers.min():g}, which is 0 in float16")
    if offenders:
        raise CompileError(
            f"the model has no float16 form:\n{format_offenders(offenders)}",
            "give --precision fp32, or pin the sites that are named to float in the recipe",
        )


def _find_wide(graph: Graph) -> set[ir.Node]:
    """The nodes that compute in float32: those that are marked, and the head where it is not quantised.

    Nothing may stand between a DequantizeLinear and the product that reads it, so all its readers are wide or none.
    What the plan put in front of a quantiser is no node of the graph that was marked, and goes by what it reads.
    """
    wide = {node for node in graph.model.graph if is_wide(node) and node.op_type != "Cast"}
    head = graph.model.graph.outputs[0].producer()
    if head is not None and head.op_type == "Gemm" and all(v and v.is_initializer() for v in head.inputs[1:]):
        wide.add(head)
    size = -1
    while size != len(wide):
        size = len(wide)
        for node in graph.model.graph:
            if node.op_type == "DequantizeLinear":
                readers = {use.node for use in node.outputs[0].uses()}
                if node in wide or readers & wide:
                    wide |= {node, *readers}
            elif (node.name or "").endswith(AFFINE_SUFFIXES) and _reads_any(node, wide):
                wide.add(node)
    return wide


def _reads_any(node: ir.Node, wide: set[ir.Node]) -> bool:
    return any(v is not None and v.producer() in wide for v in node.inputs)


def _halve(graph: Graph, wide: set[ir.Node]) -> None:
    """All floats to float16 but what ``wide`` nodes read and write."""
    inner = graph.model.graph
    _name_types(graph)
    _halve_weights(graph, wide)
    twins: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    for node in list(inner):
        kind = ir.DataType.FLOAT if node in wide else ir.DataType.FLOAT16
        if node.op_type == "Cast" and node.attributes.get_int("to") == ir.DataType.FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT16)
        for place, value in enumerate(node.inputs):
            if value is None or value.const_value is not None or value.dtype not in _FLOATS or value.dtype == kind:
                continue
            if node.op_type == "QuantizeLinear":  # takes either, with a scale of its data's type
                continue
            if (value, kind) not in twins:
                suffix = "widen" if kind == ir.DataType.FLOAT else "narrow"
                cast = _make_cast(value, f"{value.name}/{suffix}", kind)
                inner.insert_before(node, cast)
                twins[value, kind] = cast.outputs[0]
            node.replace_input_with(place, twins[value, kind])
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT:
                _set_type(value, kind)
    for node in inner:
        if node.op_type == "QuantizeLinear":
            _match_scale(graph, node)
    for place, logits in enumerate(list(inner.outputs)):
        if logits.dtype == ir.DataType.FLOAT:
            continue
        name = logits.name
        logits.name = f"{name}/half"
        widened = _make_cast(logits, f"{name}/widen", ir.DataType.FLOAT)
        widened.outputs[0].name = name
        inner.append(widened)
        inner.outputs[place] = widened.outputs[0]


def _name_types(graph: Graph) -> None:
    """Results whose type nobody wrote down: of floats come floats, but for their sizes."""
    sizes = find_whole_numbers(graph)
    for node in graph.model.graph:
        floats = any(v is not None and v.dtype == ir.DataType.FLOAT for v in node.inputs)
        for value in node.outputs:
            if value.dtype is None and floats and value.name not in sizes:
                _set_type(value, ir.DataType.FLOAT)


def _halve_weights(graph: Graph, wide: set[ir.Node]) -> None:
    for name, value in list(graph.model.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT:
            continue
        narrow = [use for use in value.uses() if use.node not in wide]
        if not narrow:
            continue
        half = tensor.numpy().astype(np.float16)
        if len(narrow) == len(value.uses()):
            value.const_value = ir.tensor(half, name=name)
            _set_type(value, ir.DataType.FLOAT16)
            continue
        twin = graph.add_constant(f"{name}.half", half)
        for use in narrow:
            use.node.replace_input_with(use.idx, twin)


def _match_scale(graph: Graph, node: ir.Node) -> None:
    """A QuantizeLinear's scale in the type of its data."""
    data, scale = operand(node), operand(node, 1)
    if data.dtype == scale.dtype or scale.const_value is None or data.dtype is None:
        return
    name = f"{scale.name}.{data.dtype.name.lower()}"
    node.replace_input_with(1, graph.share_constant(name, scale.const_value.numpy().astype(data.dtype.numpy())))


def _set_type(value: ir.Value, dtype: ir.DataType) -> None:
    """A type of the value's own: copies of a graph share the objects."""
    value.type = ir.TensorType(dtype)


def _make_cast(value: ir.Value, name: str, kind: ir.DataType) -> ir.Node:
    node = ir.node("Cast", [value], {"to": kind}, name=name)
    out = node.outputs[0]
    out.name, out.shape = name, value.shape
    _set_type(out, kind)
    return node
