"""What a group of nodes computes, found by running it on a sample.

A decomposed LayerNorm or GELU has as many spellings as exporters have versions. Each is a few nodes that read one value
and constants, so it is run once on numbers that tell the function from its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgevit.graph.graph import constant_of, reduced_axes

if TYPE_CHECKING:
    import onnx_ir as ir

Numbers = npt.NDArray[np.float64]
LIMIT_NODES = 24
_EXACT = (1, 11)
"""ONNX's float and double: a Cast to any other type rounds what it is given."""


def probe_region(
    start: ir.Value, sample: Numbers, ops: Collection[str], *, wanted: Callable[[ir.Node], bool] = lambda node: True
) -> Iterator[tuple[ir.Value, Numbers]]:
    """Every value that depends only on ``start`` and constants through ``ops``, with its numbers for ``sample``.

    Args:
        start: What the region reads.
        sample: Stands for its numbers, in float64, so that rounding hides no difference.
        ops: Operators of the region.
        wanted: Leaves out nodes beyond those.
    """
    known: dict[ir.Value, Numbers] = {start: sample}
    waiting = [use.node for use in start.uses()]
    seen: set[ir.Node] = set()
    for _ in range(LIMIT_NODES):
        ready = [n for n in waiting if n not in seen and n.op_type in ops and _is_ready(n, known) and wanted(n)]
        if not ready:
            return
        for node in ready:
            seen.add(node)
            made = _run(node, known)
            if made is None:
                continue
            value = node.outputs[0]
            known[value] = made
            yield value, made
            waiting += [use.node for use in value.uses()]


def is_closed(start: ir.Value, result: ir.Value) -> bool:
    """Whether nothing else than ``result`` comes of what is computed between it and ``start``.

    What something else reads too would stay beside the node that takes the region's place, and be computed twice.
    """
    last = result.producer()
    assert last is not None
    inside, waiting = {last}, [last]
    while waiting:
        for value in waiting.pop().inputs:
            node = value.producer() if value is not None and value is not start else None
            if node is not None and node not in inside and not _is_constant(node):
                inside.add(node)
                waiting.append(node)
    values = [value for node in inside if node is not last for value in node.outputs]
    return all(not v.is_graph_output() and all(use.node in inside for use in v.uses()) for v in values)


def _is_constant(node: ir.Node) -> bool:
    return all(v is None or v.const_value is not None for v in node.inputs)


def _is_ready(node: ir.Node, known: dict[ir.Value, Numbers]) -> bool:
    return all(v is None or v in known or v.const_value is not None for v in node.inputs)


def _run(node: ir.Node, known: dict[ir.Value, Numbers]) -> Numbers | None:
    inputs: list[Any] = []
    for value in node.inputs:
        if value is not None and value in known:
            inputs.append(known[value])
        else:
            numbers = constant_of(value)
            inputs.append(numbers.astype(np.float64) if numbers is not None and numbers.dtype.kind == "f" else numbers)
    if node.op_type == "Cast" and node.attributes["to"].as_int() not in _EXACT:
        return None
    try:
        with np.errstate(all="ignore"):
            made = _OPS[node.op_type](node, inputs)
    except (ValueError, IndexError):  # shapes of a sample that do not fit: no pattern of ours
        return None
    return made if np.isfinite(made).all() else None


def _reduce_mean(node: ir.Node, inputs: list[Any]) -> Numbers:
    keep = node.attributes.get_int("keepdims", 1) == 1
    result: Numbers = np.mean(inputs[0], axis=reduced_axes(node) or None, keepdims=keep)
    return result


def erf(x: Numbers) -> Numbers:
    """The error function in float64."""
    import torch

    result: Numbers = torch.erf(torch.from_numpy(np.ascontiguousarray(x))).numpy()
    return result


_OPS: dict[str, Callable[[Any, list[Any]], Numbers]] = {
    "Add": lambda node, x: x[0] + x[1],
    "Sub": lambda node, x: x[0] - x[1],
    "Mul": lambda node, x: x[0] * x[1],
    "Div": lambda node, x: x[0] / x[1],
    "Pow": lambda node, x: x[0] ** x[1],
    "Sqrt": lambda node, x: np.sqrt(x[0]),
    "Reciprocal": lambda node, x: 1.0 / x[0],
    "Neg": lambda node, x: -x[0],
    "Tanh": lambda node, x: np.tanh(x[0]),
    "Sigmoid": lambda node, x: 1.0 / (1.0 + np.exp(-x[0])),
    "Erf": lambda node, x: erf(x[0]),
    "ReduceMean": _reduce_mean,
    "Identity": lambda node, x: x[0],
    "Cast": lambda node, x: x[0],
}
