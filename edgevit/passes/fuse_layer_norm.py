"""Bring a decomposed LayerNorm to one LayerNormalization node.

Where an engine meets ReduceMean, Pow and Sqrt one by one it computes them one by one, and in float16 the squares
overflow. Any order of factors is found, the affine part before or behind the division included: on a sample, the result
must be ``γ·(x − mean)/√(variance + ε) + β`` over the last axis, with the ε that the graph adds.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevit.graph import Graph, static_shape
from edgevit.movement import constant_of
from edgevit.passes.probe import Numbers, probe_region
from edgevit.record import PassRecord, Skip

_OPS = ("ReduceMean", "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Reciprocal", "Neg", "Identity", "Cast")
_ROWS, _TOLERANCE = 8, 1e-6


def fuse_layer_norm(graph: Graph) -> PassRecord:
    """Rewrite in place; exact to rounding."""
    import onnx_ir.passes.common as common

    applied: list[str] = []
    skipped: list[Skip] = []
    fused: set[ir.Value] = set()
    for node in list(graph.model.graph):
        start = node.inputs[0] if node.op_type == "ReduceMean" else None
        if start is None or start in fused or not _leads_to_root(node):
            continue
        site = node.name or node.op_type
        shape = static_shape(start)
        if shape is None or len(shape) < 2:
            skipped.append(Skip(site, "the shape that it normalises is not static"))
            continue
        found = _find(start, shape)
        if found is None:
            skipped.append(Skip(site, "mean and root are not those of a LayerNorm over the last axis"))
            continue
        result, gain, shift, epsilon, inside = found
        name = f"{site}/norm"
        inputs = [start, _register(graph, f"{name}.weight", gain), _register(graph, f"{name}.bias", shift)]
        made = ir.node("LayerNormalization", inputs, {"axis": -1, "epsilon": epsilon}, name=name)
        out = made.outputs[0]
        out.name, out.shape, out.type = name, result.shape, result.type
        made.metadata_props.update(node.metadata_props)
        producer = result.producer()
        assert producer is not None
        graph.model.graph.insert_after(producer, made)
        result.replace_all_uses_with(out)
        fused |= {start, *inside}
        applied.append(site)
    common.RemoveUnusedNodesPass()(graph.model)
    return PassRecord("fuse_layer_norm", "graph", tuple(applied), tuple(skipped))


def _leads_to_root(node: ir.Node, depth: int = 6) -> bool:
    """Whether a Sqrt, or a power that may be one, comes soon: the mean of pooling has none."""
    edge = [node]
    for _ in range(depth):
        edge = [use.node for n in edge for v in n.outputs for use in v.uses() if use.node.op_type in _OPS]
        if any(n.op_type == "Sqrt" for n in edge):
            return True
    return False


def _find(start: ir.Value, shape: tuple[int, ...]) -> tuple[ir.Value, Numbers, Numbers, float, list[ir.Value]] | None:
    """The last value that is a LayerNorm of ``start``, with its gain, shift and epsilon, and all on the way."""
    width = shape[-1]
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(_ROWS, width)) * np.arange(1, _ROWS + 1)[:, None] + np.arange(_ROWS)[:, None]
    sample: Numbers = rows.reshape(_ROWS, *[1] * (len(shape) - 2), width)
    centred = rows - rows.mean(axis=1, keepdims=True)
    epsilons: list[float] = []
    best = None
    inside: list[ir.Value] = []
    for value, numbers in probe_region(start, sample, _OPS):
        inside.append(value)
        producer = value.producer()
        assert producer is not None
        if producer.op_type == "Add":
            epsilons += [
                float(c.reshape(-1)[0]) for v in producer.inputs if (c := constant_of(v)) is not None and c.size == 1
            ]
        if numbers.shape != sample.shape or value.is_graph_output():
            continue
        flat = numbers.reshape(_ROWS, width)
        for epsilon in epsilons:
            normal = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + epsilon)
            gain = (flat[1] - flat[0]) / (normal[1] - normal[0])
            shift = flat[0] - gain * normal[0]
            error = np.abs(normal * gain + shift - flat).max()
            if error <= _TOLERANCE * max(1e-3, float(np.abs(flat).max())) and bool(np.abs(gain).max() > 0):
                best = value, gain, shift, epsilon, inside
    return best


def _register(graph: Graph, name: str, numbers: Numbers) -> ir.Value:
    tensor = ir.tensor(numbers.astype(np.float32), name=name)
    value = ir.Value(name=name, shape=ir.Shape(numbers.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.model.graph.register_initializer(value)
    return value
