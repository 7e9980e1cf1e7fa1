"""type_graph: the strongly typed form of a graph, in which every tensor's type says how it is computed.

TensorRT 11 takes no other, and 10.3 and later take it too (``NetworkDefinitionCreationFlag.STRONGLY_TYPED``): precision
lies in the graph, and no builder flag changes it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import onnx_ir as ir

from edgevit.errors import CompileError, format_offenders
from edgevit.graph import Graph

Arithmetic: TypeAlias = Literal["fp32", "fp16"]

LARGEST_HALF = 65504.0
_SMALLEST_HALF = 2.0**-24
_HALF_SCALES_OPSET = 19
"""The first opset in which QuantizeLinear and DequantizeLinear take float16 scales."""


def type_graph(graph: Graph, arithmetic: Arithmetic) -> Graph:
    """A graph whose float tensors all have one type; Q/DQ pairs stay what they are, with scales of that type.

    The image is cast first, because TensorRT moves no unsigned bytes; LayerNormalization keeps its float32
    accumulation (``stash_type``). The head, a Linear of one row, is float32 as the logits are, unless it is quantised.

    Args:
        graph: ``image (B, H, W, 3) uint8`` to ``logits (B, K) float32``, its floats float32; not changed.
        arithmetic: The type that what is not quantised is computed in.

    Raises:
        CompileError: A weight or a scale does not fit float16, or the opset knows no float16 scales; all are listed.
    """
    result = graph.copy()
    _cast_image_first(result)
    if arithmetic == "fp16":
        wide = _find_head(result)
        _refuse(result)
        _halve(result, wide)
    return result


def _cast_image_first(graph: Graph) -> None:
    inner = graph.model.graph
    image = inner.inputs[0]
    casts = [n for n in inner if n.op_type == "Cast" and n.inputs[0] is not None and _is_image(n.inputs[0], image)]
    if len(casts) != 1 or casts[0].inputs[0] is image:
        return
    cast, out = casts[0], casts[0].outputs[0]
    moved = cast.inputs[0]
    assert moved is not None
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


def _is_image(value: ir.Value, image: ir.Value) -> bool:
    from edgevit.plan import trace_layout

    return trace_layout(value) is image


def _refuse(graph: Graph) -> None:
    offenders = []
    quantized = any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.model.graph)
    opset = graph.model.graph.opset_imports.get("", 0)
    if quantized and opset < _HALF_SCALES_OPSET:
        offenders.append(f"opset {opset}: float16 scales begin with opset {_HALF_SCALES_OPSET}")
    scales = {
        node.inputs[1].name
        for node in graph.model.graph
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.inputs[1] is not None
    }
    for name, value in graph.model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or not tensor.size:
            continue
        numbers = np.abs(tensor.numpy())
        if not numbers.max() <= LARGEST_HALF:  # also where it is not a number
            offenders.append(f"{name} holds {numbers.max():g}, beyond float16's {LARGEST_HALF:g}")
        elif name in scales and numbers.min() < _SMALLEST_HALF:
            offenders.append(f"{name} holds {numbers.min():g}, which is 0 in float16")
    if offenders:
        raise CompileError(
            f"the model has no float16 form:\n{format_offenders(offenders)}",
            "give --precision fp32, or pin the sites that are named to float in the recipe",
        )


def _find_head(graph: Graph) -> ir.Node | None:
    """The Gemm that computes the logits and nothing else does: its own type is then the logits'."""
    producer = graph.model.graph.outputs[0].producer()
    if producer is None or producer.op_type != "Gemm":
        return None
    weights = producer.inputs[1:]
    return producer if all(v is not None and v.is_initializer() and len(v.uses()) == 1 for v in weights) else None


def _halve(graph: Graph, wide: ir.Node | None) -> None:
    """All floats to float16 but those of ``wide``, which computes the logits."""
    inner = graph.model.graph
    kept = set(wide.inputs[1:]) if wide is not None else set()
    for value in inner.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.dtype == ir.DataType.FLOAT and value not in kept:
            value.const_value = ir.tensor(tensor.numpy().astype(np.float16), name=value.name)
            _set_type(value, ir.DataType.FLOAT16)
    for node in inner:
        if node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT16)
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT and node is not wide:
                _set_type(value, ir.DataType.FLOAT16)
    if wide is not None:
        source = wide.inputs[0]
        assert source is not None
        twin = _widen(source, f"{wide.name}/widen")
        inner.insert_before(wide, twin)
        wide.replace_input_with(0, twin.outputs[0])
        return
    for place, logits in enumerate(list(inner.outputs)):
        name = logits.name
        logits.name = f"{name}/half"
        twin = _widen(logits, f"{name}/widen")
        twin.outputs[0].name = name
        inner.append(twin)
        inner.outputs[place] = twin.outputs[0]


def _set_type(value: ir.Value, dtype: ir.DataType) -> None:
    """A type of the value's own: copies of a graph share the objects."""
    value.type = ir.TensorType(dtype)


def _widen(value: ir.Value, name: str) -> ir.Node:
    node = ir.node("Cast", [value], {"to": ir.DataType.FLOAT}, name=name)
    out = node.outputs[0]
    out.name, out.dtype, out.shape = name, ir.DataType.FLOAT, value.shape
    return node
