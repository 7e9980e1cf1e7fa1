"""TensorRT's rules for a strongly typed graph with Q/DQ pairs, checked before the compiler sees the graph.

The compiler's own words name tensors of its own and end at the first fault; here every fault is named by its site. The
rules are those of NVIDIA's "Working with Quantized Types": symmetric, zero point 0, no unsigned types, a scale of its
data's type, nothing between a weight's DequantizeLinear and the product that reads it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from edgevit.graph.graph import SITE_OPS, Graph, constant_of, producer_of
from edgevit.graph.moves import LAYOUT_OPS

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_FP8 = (ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E5M2)
_FP8_SINCE = (8, 9)
# Operators of opset 20 that the parser takes (onnx-tensorrt, docs/operators.md; most since TensorRT 8), but for those
# that have subgraphs, states or chance in them. Resize is one of them where it states sizes: scales stay float32
# whatever its data are.
KNOWN_OPS = frozenset((
    "Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "AveragePool",
    "BatchNormalization", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv",
    "ConvTranspose", "Cos", "Cosh", "CumSum", "DepthToSpace", "DequantizeLinear", "Div", "Dropout", "Einsum", "Elu",
    "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm",
    "GlobalAveragePool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "GridSample", "GroupNormalization",
    "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Less",
    "LessOrEqual", "Log", "LogSoftmax", "LpNormalization", "MatMul", "Max", "MaxPool", "Mean", "Min", "Mish", "Mod",
    "Mul", "Neg", "Not", "OneHot", "Or", "PRelu", "Pad", "Pow", "QuantizeLinear", "Reciprocal", "ReduceL1",
    "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare", "Relu", "Reshape", "Round", "ScatterElements", "ScatterND", "Selu", "Shape", "Sigmoid", "Sign",
    "Sin", "Sinh", "Size", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze",
    "Sub", "Sum", "Tan", "Tanh", "ThresholdedRelu", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "Where", "Xor",
))  # fmt: skip


def find_violations(graph: Graph, compute_capability: str | None) -> tuple[str, ...]:
    """Everything that TensorRT would refuse, each with the name of its node.

    Args:
        graph: Strongly typed; see :func:`edgevit.engines.tensorrt.typed.type_graph`.
        compute_capability: Of the GPU, as in ``8.6``; unknown where it is ``None``.
    """
    return tuple(fault for node in graph.model.graph for fault in _check_node(node, compute_capability))


def _check_node(node: ir.Node, compute_capability: str | None) -> Iterator[str]:
    name = node.name or "a node without a name"
    if node.op_type == "Resize" and not node.domain:
        if any(value is not None for value in node.inputs[1:3]):
            yield f"{name}: TensorRT has no operator Resize with scales in a typed graph, only with sizes"
    elif node.domain not in ("", "ai.onnx") or node.op_type not in KNOWN_OPS:
        domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
        yield f"{name}: TensorRT has no operator {domain}{node.op_type}"
    if node.op_type in _QUANTIZERS:
        yield from _check_pair(node, name, compute_capability)
    if node.op_type in SITE_OPS:
        yield from _check_product(node, name)
    types = {v.dtype for v in node.inputs if v is not None and v.dtype is not None and v.dtype.is_floating_point()}
    if node.op_type in (*SITE_OPS, "Add", "Sub", "Mul", "Div", "Concat") and len(types) > 1:
        yield f"{name}: its inputs are {' and '.join(sorted(t.name.lower() for t in types))}, and nothing casts them"


def _check_pair(node: ir.Node, name: str, compute_capability: str | None) -> Iterator[str]:
    data, scale = node.inputs[0], node.inputs[1]
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    codes = node.outputs[0] if node.op_type == "QuantizeLinear" else data
    real = data if node.op_type == "QuantizeLinear" else node.outputs[0]
    kind = codes.dtype if codes is not None and codes.dtype is not None else zero.dtype if zero is not None else None
    if scale is None or scale.const_value is None:
        yield f"{name}: its scale is computed; TensorRT wants a constant"
    elif not np.all(scale.const_value.numpy() > 0):
        yield f"{name}: a scale is not above 0"
    if zero is not None and zero.const_value is not None and np.any(zero.const_value.numpy().astype(np.float32) != 0):
        yield f"{name}: its zero point is not 0; TensorRT quantises only symmetrically"
    if kind in (ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT4):
        yield f"{name}: its codes are {kind.name.lower()}; TensorRT has no unsigned codes"
    if kind in _FP8 and compute_capability is not None and _parse(compute_capability) < _FP8_SINCE:
        yield f"{name}: fp8 begins with compute capability 8.9, and the GPU has {compute_capability}"
    types = [value.dtype.name.lower() for value in (scale, real) if value is not None and value.dtype is not None]
    if len(set(types)) > 1:
        yield f"{name}: its scale is {types[0]} and its data {types[1]}"
    axis = node.attributes.get_int("axis", 1)
    size = scale.const_value.size if scale is not None and scale.const_value is not None else 1
    if size > 1 and data is not None and data.const_value is None:
        yield f"{name}: an activation has one scale, not {size} along axis {axis}"


def _check_product(node: ir.Node, name: str) -> Iterator[str]:
    """Whether a quantised weight is read as it is."""
    between = []
    producer = producer_of(node.inputs[1])
    while producer is not None and producer.op_type in (*LAYOUT_OPS, "Cast"):
        between.append(producer)
        producer = producer_of(producer.inputs[0])
    stored = producer is not None and producer.op_type == "DequantizeLinear"
    if between and stored and producer is not None and constant_of(producer.inputs[0]) is not None:
        ops = ", ".join(f"{n.op_type} ({n.name})" for n in reversed(between))
        yield f"{name}: {ops} stands between its weight's DequantizeLinear and the product"


def _parse(compute_capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in compute_capability.split("."))
