"""Bring a decomposed LayerNorm to one LayerNormalization node.

Where an engine meets ReduceMean, Pow and Sqrt one by one it computes them one by one, and in float16 the squares
overflow. Any order of factors is found, the affine part before or behind the division included: on a sample, the result
must be ``γ·(x − mean)/√(variance + ε) + β`` over the last axis, with the ε that the graph adds. The sample's rows are
of every magnitude down to that of ε, and there are several along every axis, so that neither an ε in another place nor
another axis can pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgevit.core.pass_record import PassRecord
from edgevit.graph.builder import Builder
from edgevit.graph.graph import Graph, constant_of, static_shape
from edgevit.graph.passes.visit import visit_nodes
from edgevit.graph.patterns.pieces import MismatchError
from edgevit.graph.probe import Numbers, is_closed, probe_region

_OPS = ("ReduceMean", "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Reciprocal", "Neg", "Identity", "Cast")
_ROWS, _TOLERANCE = 8, 1e-6
_SMALLEST, _LARGEST = 1e-6, 8.0


@dataclass(frozen=True)
class _Match:
    """A value that is a LayerNorm of another one."""

    result: ir.Value
    gain: Numbers
    shift: Numbers
    epsilon: float


def fuse_layer_norm(graph: Graph) -> PassRecord:
    """Rewrite in place; exact to rounding."""
    fused: set[ir.Value] = set()

    def rewrite(node: ir.Node) -> bool:
        start = node.inputs[0] if node.op_type == "ReduceMean" else None
        if start is None or start in fused or not _leads_to_root(node):
            return False
        shape = static_shape(start)
        if shape is None or len(shape) < 2:
            raise MismatchError(node, "the shape that it normalises is not static")
        if start.dtype not in (None, ir.DataType.FLOAT):
            raise MismatchError(node, f"it does not compute in float32 but in {start.dtype.name.lower()}")
        matches, inside = _find(start, shape)
        if not matches:
            raise MismatchError(node, "mean and root are not those of a LayerNorm over the last axis")
        fused.update((start, *inside))
        match = next((m for m in reversed(matches) if is_closed(start, m.result)), None)
        if match is None:
            raise MismatchError(node, "something else reads a value inside it")
        site = node.name or node.op_type
        gain = graph.add_constant(f"{site}/norm.weight", match.gain.astype(np.float32))
        shift = graph.add_constant(f"{site}/norm.bias", match.shift.astype(np.float32))
        build = Builder(graph, site, node)
        form = {"axis": -1, "epsilon": match.epsilon}
        build.replace(match.result, "LayerNormalization", [start, gain, shift], "norm", **form)
        return True

    return visit_nodes(graph, "fuse_layer_norm", rewrite)


def _leads_to_root(node: ir.Node, depth: int = 6) -> bool:
    """Whether a Sqrt, or a power that may be one, comes soon: the mean of pooling has none."""
    edge = [node]
    for _ in range(depth):
        edge = [use.node for n in edge for v in n.outputs for use in v.uses() if use.node.op_type in _OPS]
        if any(n.op_type == "Sqrt" for n in edge):
            return True
    return False


def _find(start: ir.Value, shape: tuple[int, ...]) -> tuple[list[_Match], list[ir.Value]]:
    """Values that are a LayerNorm of ``start``, from the first to the last, and all that were looked at."""
    width = shape[-1]
    lead = (_ROWS, *[2] * (len(shape) - 2))
    count = int(np.prod(lead))
    scale = np.geomspace(_SMALLEST, _LARGEST, count)[:, None]
    rows = scale * (np.random.default_rng(0).normal(size=(count, width)) + np.arange(count)[:, None] % _ROWS)
    centred = rows - rows.mean(axis=1, keepdims=True)
    epsilons: list[float] = []
    matches: list[_Match] = []
    inside: list[ir.Value] = []
    for value, numbers in probe_region(start, rows.reshape(*lead, width), _OPS):
        inside.append(value)
        producer = value.producer()
        assert producer is not None
        if producer.op_type == "Add":
            epsilons += [
                float(c.reshape(-1)[0]) for v in producer.inputs if (c := constant_of(v)) is not None and c.size == 1
            ]
        if numbers.shape != (*lead, width) or value.is_graph_output() or value.dtype not in (None, ir.DataType.FLOAT):
            continue
        flat = numbers.reshape(count, width)
        for epsilon in epsilons:
            normal = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + epsilon)
            gain = (flat[-1] - flat[-2]) / (normal[-1] - normal[-2])
            shift = flat[-1] - gain * normal[-1]
            error = np.abs(normal * gain + shift - flat).max()
            if error <= _TOLERANCE * max(1e-3, float(np.abs(flat).max())) and bool(np.abs(gain).max() > 0):
                matches.append(_Match(value, gain, shift, epsilon))
                break
    return matches, inside
