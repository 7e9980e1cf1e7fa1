"""ONNX's Attention operator (opset 23), taken apart into the operators that it stands for.

What comes out is ``MatMul → Add → Softmax → MatMul`` on ``(B, A, N, D)``, the scale on the queries: the form in which
other exports have it, and in which :mod:`edgevit.graph.patterns.attention` reads it. Taken apart are inputs of rank 3
and 4, constant masks of numbers or truths, computed masks of numbers, and ``is_causal``. Left alone, with the reason:
caches of keys and values, their padding, groups of heads that share keys, soft caps and scores as a result, which no
image encoder has, and masks that close a row, whose probabilities the operator's versions define in different ways.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.graph.builder import Builder
from edgevit.graph.graph import Graph, constant_of, static_shape

ATTENTION = "Attention"
_FLOAT = ir.DataType.FLOAT


def lower_attention(graph: Graph) -> tuple[int, dict[ir.Node, str]]:
    """Rewrite in place; exact to rounding.

    Args:
        graph: With static shapes and constants as initializers.

    Returns:
        How many were taken apart, and the nodes that were not, with the reason.
    """
    count = 0
    left: dict[ir.Node, str] = {}
    for node in list(graph.model.graph):
        if node.op_type != ATTENTION or node.domain:
            continue
        reason = _find_obstacle(node)
        if reason:
            left[node] = reason
        else:
            _rebuild(graph, node)
            count += 1
    return count, left


def _find_obstacle(node: ir.Node) -> str | None:
    """Why an operator is more than plain attention; ``None`` where it is that."""
    used = [number for number, value in enumerate(node.inputs) if value is not None]
    if any(number > 3 for number in used):
        return "it reads a cache of keys and values, or lengths of padding"
    if any(value.name and (value.uses() or value.is_graph_output()) for value in node.outputs[1:]):
        return "its scores or a cache are results too"
    if node.outputs[0].is_graph_output():
        return "its result is an output of the graph"
    if node.attributes.get_float("softcap", 0.0) != 0.0:
        return "its scores have a soft cap"
    types = {ir.DataType(node.attributes.get_int("softmax_precision", _FLOAT)), *(value.dtype for value in _qkv(node))}
    if types != {_FLOAT}:
        return "it does not compute in float32"
    shapes = [static_shape(value) for value in _qkv(node)]
    ranks = {len(shape) if shape is not None else 0 for shape in shapes}
    if ranks not in ({3}, {4}):
        return "its queries, keys and values have no static shape of rank 3 or 4"
    heads = [_count_heads(node, number) for number in (0, 1)]
    if heads[0] != heads[1] or heads[0] == 0:
        return "several heads share keys and values"
    return _find_mask_obstacle(node, *((shape or ())[-2] for shape in shapes[:2]))


def _find_mask_obstacle(node: ir.Node, queries: int, keys: int) -> str | None:
    if node.attributes.get_int("is_causal", 0) and queries != keys:
        return "it is causal, and has other numbers of queries than keys"
    mask = _mask(node)
    if mask is None:
        return None
    shape, numbers = static_shape(mask), constant_of(mask)
    if shape is None or not 2 <= len(shape) <= 4 or shape[-1] != keys:
        return f"its mask is not for {keys} keys"
    if numbers is None:
        return None if mask.dtype == _FLOAT else "its mask of truths is computed"
    table = _as_numbers(numbers)
    if node.attributes.get_int("is_causal", 0):
        table = table + _causal(keys)
    return "its mask closes a whole row" if not np.isfinite(table).any(-1).all() else None


def _rebuild(graph: Graph, node: ir.Node) -> None:
    build = Builder(graph, node.name or "", node)
    q, k, v = (_split_heads(build, value, node, name) for value, name in zip(_qkv(node), "qkv", strict=True))
    batch, heads, tokens, width = static_shape(q) or ()
    keys, value_width = (static_shape(v) or ())[-2:]
    scale = node.attributes.get_float("scale", width**-0.5)
    if scale != 1.0:
        factor = build.constant("scale", np.asarray(scale, np.float32))
        q = build.add("Mul", [q, factor], "q/scaled", (batch, heads, tokens, width))
    turned = build.add("Transpose", [k], "k/turn", (batch, heads, width, keys), perm=[0, 1, 3, 2])
    shape = (batch, heads, tokens, keys)
    scores = build.add("MatMul", [q, turned], "scores", shape)
    for number, mask in enumerate(_masks(build, node, keys)):
        scores = build.add("Add", [scores, mask], f"masked.{number}", shape)
    weights = build.add("Softmax", [scores], "softmax", shape, axis=-1)
    result = build.add("MatMul", [weights, v], "context", (batch, heads, tokens, value_width))
    if len(static_shape(node.inputs[0]) or ()) == 3:
        joined = build.add("Transpose", [result], "turn_back", (batch, tokens, heads, value_width), perm=[0, 2, 1, 3])
        target = build.constant("joined.shape", np.asarray([0, 0, -1], np.int64))
        result = build.add("Reshape", [joined, target], "joined", (batch, tokens, heads * value_width))
    build.insert(node, node.outputs[0], result)
    graph.model.graph.remove(node, safe=True)


def _masks(build: Builder, node: ir.Node, keys: int) -> list[ir.Value]:
    """What is added to the scores: constants as one, a mask that is computed as it is."""
    mask, constant = _mask(node), None
    numbers = constant_of(mask)
    if numbers is not None:
        constant = _as_numbers(numbers)
    if node.attributes.get_int("is_causal", 0):
        constant = _causal(keys) if constant is None else constant + _causal(keys)
    made = [build.constant("mask", constant)] if constant is not None else []
    return made if mask is None or numbers is not None else [mask, *made]


def _split_heads(build: Builder, value: ir.Value, node: ir.Node, name: str) -> ir.Value:
    """``(B, N, A·D)`` as ``(B, A, N, D)``; what has rank 4 is that already."""
    shape = static_shape(value) or ()
    if len(shape) == 4:
        return value
    batch, tokens, columns = shape
    heads = _count_heads(node, "qkv".index(name))
    target = build.constant(f"{name}/heads.shape", np.asarray([0, 0, heads, -1], np.int64))
    split = build.add("Reshape", [value, target], f"{name}/heads", (batch, tokens, heads, columns // heads))
    turned = (batch, heads, tokens, columns // heads)
    return build.add("Transpose", [split], f"{name}/turn_heads", turned, perm=[0, 2, 1, 3])


def _as_numbers(mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Truths as what is added to the scores."""
    if mask.dtype != np.bool_:
        return mask.astype(np.float32)
    return np.where(mask, np.float32(0.0), np.float32(-np.inf)).astype(np.float32)


def _causal(tokens: int) -> npt.NDArray[Any]:
    """Every token sees itself and those in front of it."""
    return _as_numbers(np.tri(tokens, dtype=np.bool_))


def _qkv(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs[:3] if value is not None]


def _mask(node: ir.Node) -> ir.Value | None:
    return node.inputs[3] if len(node.inputs) > 3 else None


def _count_heads(node: ir.Node, number: int) -> int:
    """Heads of queries, keys or values."""
    shape = static_shape(_qkv(node)[number]) or ()
    return shape[1] if len(shape) == 4 else node.attributes.get_int("kv_num_heads" if number else "q_num_heads", 0)
