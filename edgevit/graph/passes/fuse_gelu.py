"""Bring a decomposed GELU to one Gelu node.

Cases: ``x·Φ(x)`` by Erf, and its approximation by Tanh (Hendrycks and Gimpel, 2016, arXiv:1606.08415), in whatever
order the halves and factors were multiplied. A function that differs by more than float32's rounding of its constants
is left alone.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgevit.core.pass_record import PassRecord
from edgevit.graph.builder import Builder
from edgevit.graph.graph import Graph, static_shape
from edgevit.graph.passes.visit import visit_nodes
from edgevit.graph.patterns.pieces import MismatchError
from edgevit.graph.probe import Numbers, erf, is_closed, probe_region

_OPS = ("Add", "Sub", "Mul", "Div", "Pow", "Erf", "Tanh", "Identity")
_SAMPLE: Numbers = np.linspace(-6.0, 6.0, 241)
_TOLERANCE = 1e-6  # constants such as 0.70710677 are rounded to float32
_FUNCTIONS: dict[str, Numbers] = {
    "none": 0.5 * _SAMPLE * (1 + erf(_SAMPLE / math.sqrt(2))),
    "tanh": 0.5 * _SAMPLE * (1 + np.tanh(math.sqrt(2 / math.pi) * (_SAMPLE + 0.044715 * _SAMPLE**3))),
}


def fuse_gelu(graph: Graph) -> PassRecord:
    """Rewrite in place; exact to the rounding of constants."""

    def rewrite(node: ir.Node) -> bool:
        if node.op_type not in ("Erf", "Tanh"):
            return False
        found = _find(node)
        if found is None:
            raise MismatchError(node, f"what reads this {node.op_type} is not a GELU")
        start, result, approximate = found
        if not is_closed(start, result):
            raise MismatchError(node, "something else reads a value inside this GELU")
        Builder(graph, node.name or node.op_type, node).replace(
            result, "Gelu", [start], "gelu", approximate=approximate
        )
        return True

    return visit_nodes(graph, "fuse_gelu", rewrite)


def _find(node: ir.Node) -> tuple[ir.Value, ir.Value, str] | None:
    """What the GELU reads, its result, and which one it is; the argument of Erf or Tanh is within six nodes of both."""
    starts: list[ir.Value] = []
    edge = [v for v in node.inputs if v is not None]
    for _ in range(6):
        values = [v for v in edge if v.const_value is None]
        starts += [v for v in values if v not in starts]
        edge = [w for v in values if (p := v.producer()) is not None and p.op_type in _OPS for w in p.inputs if w]
    for start in starts:
        rank = len(static_shape(start) or (0,))  # a constant of a higher one would change the result's
        sample = _SAMPLE.reshape(*[1] * (rank - 1), -1)
        for value, numbers in probe_region(start, sample, _OPS, wanted=_is_scalar):
            for approximate, expected in _FUNCTIONS.items():
                same = numbers.shape == sample.shape and np.abs(numbers - expected).max() <= _TOLERANCE
                if same and not value.is_graph_output():
                    return start, value, approximate
    return None


def _is_scalar(node: ir.Node) -> bool:
    """Every constant is one number: the function is the same for every element."""
    return all(v is None or v.const_value is None or v.const_value.size == 1 for v in node.inputs)
