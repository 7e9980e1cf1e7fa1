"""Bring attention to the form that engines fuse, however it was exported.

What comes out: q, k and v by three Linears or a packed one, with the scale of the scores in the first; rank 4 from the
projections on, where a permute of rank 5 would stay a copy; ``MatMul → Add → Softmax → MatMul`` with position bias and
mask in one constant. Rows of tokens stay where they were, so windows and the output projection are not touched.

Left alone, with the reason: whatever :func:`edgevit.graph.patterns.attention.find_attention` does not recognise, such
as queries that are normalised or rotated behind their projection.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir

from edgevit.core.pass_record import PassRecord
from edgevit.graph.builder import Builder
from edgevit.graph.graph import Graph, known_shape, producer_of, static_shape
from edgevit.graph.passes.visit import visit_nodes
from edgevit.graph.patterns.attention import Attention, Projection, find_attention
from edgevit.graph.patterns.pieces import MismatchError, Weights

Form = Literal["packed", "separate"]


def fuse_attention(graph: Graph, form: Form) -> PassRecord:
    """Rewrite in place, with one projection for q, k and v or one for each of them; exact to rounding."""

    def rewrite(node: ir.Node) -> bool:
        if node.op_type != "MatMul" or not _follows_softmax(node):
            return False
        try:
            attention = find_attention(node)
            if node.outputs[0].is_graph_output():
                raise MismatchError(node, "attention's result is an output of the graph")
            if len(attention.softmax.outputs[0].uses()) > 1:  # they would be computed twice
                raise MismatchError(attention.softmax, "its probabilities are read by something else too")
            _check_order(attention, form)
        except MismatchError as exc:
            at = "" if exc.site == node.name else f"{exc.site}: "
            raise MismatchError(node, f"{at}{exc.reason}") from exc
        _rebuild(graph, attention, form)
        return True

    return visit_nodes(graph, "fuse_attention", rewrite)


def _follows_softmax(node: ir.Node) -> bool:
    """Whether a softmax is its first operand, but for reshapes and casts."""
    value = node.inputs[0]
    for _ in range(4):
        producer = producer_of(value)
        if producer is None:
            return False
        if producer.op_type == "Softmax":
            return True
        value = producer.inputs[0] if producer.op_type in ("Reshape", "Cast", "Where", "Dropout") else None
    return False


def _check_order(attention: Attention, form: Form) -> None:
    first = _input_of(attention.q, attention)
    for part in (attention.k, attention.v):
        if _input_of(part, attention) is not first and form == "packed":
            raise MismatchError(part.product, "queries, keys and values are projected from different values")


def _input_of(part: Projection, attention: Attention) -> ir.Value:
    """The value whose tokens are those of the windows, in order: what the product reads, or what that was moved from.

    A Linear works on every token alone, so a movement of tokens in front of it, as torchvision's from (B, N, C) to
    (N, B, C), is undone by one behind it.
    """
    order = np.arange(attention.windows * attention.tokens).reshape(attention.windows, attention.tokens)
    for value, rows in ((part.moved, part.moved_rows), (part.source, part.rows)):
        shape = static_shape(value) or ()
        if np.array_equal(rows, order) and int(np.prod(shape[:-1])) == order.size:
            return value
    raise MismatchError(part.product, "tokens change places between projection and product")


def _rebuild(graph: Graph, attention: Attention, form: Form) -> None:
    heads, width = attention.heads, attention.head_width
    lead, tokens = attention.windows, attention.tokens
    build = Builder(graph, attention.context.name or "", attention.softmax)
    q, k, v = (_project_packed if form == "packed" else _project_separately)(build, attention)
    turned = build.add("Transpose", [k], "k/turn", (lead, heads, width, tokens), perm=[0, 1, 3, 2])
    scores = build.add("MatMul", [q, turned], "scores", (lead, heads, tokens, tokens))
    if attention.bias is not None:
        scores = build.add("Add", [scores, build.constant("bias", attention.bias)], "biased", scores.shape)
    weights = build.add("Softmax", [scores], "softmax", scores.shape, axis=-1)
    context = build.add("MatMul", [weights, v], "context", (lead, heads, tokens, width))
    old = attention.context.outputs[0]
    build.insert(attention.context, old, build.reshape(context, known_shape(old), "shaped"))


def _project_separately(build: Builder, attention: Attention) -> list[ir.Value]:
    made = []
    for name, part in zip("qkv", _list_parts(attention), strict=True):
        rows = _project(build, _input_of(part, attention), part.weight, part.bias, name)
        made.append(_split_heads(build, rows, attention, attention.heads, name))
    return made


def _list_parts(attention: Attention) -> tuple[Projection, ...]:
    """Queries with the scale of the scores, keys and values."""
    return attention.q.times(attention.scale), attention.k, attention.v


def _project_packed(build: Builder, attention: Attention) -> list[ir.Value]:
    parts = _list_parts(attention)
    weight = np.concatenate([p.weight for p in parts])
    biases = [np.zeros(len(p.weight), np.float32) if p.bias is None else p.bias for p in parts]
    bias = np.concatenate(biases) if any(p.bias is not None for p in parts) else None
    rows = _project(build, _input_of(attention.q, attention), weight, bias, "qkv")
    packed = _split_heads(build, rows, attention, 3 * attention.heads, "qkv")
    shape = (attention.windows, attention.heads, attention.tokens, attention.head_width)
    made = []
    for number, name in enumerate("qkv"):
        numbers = [number * attention.heads], [(number + 1) * attention.heads], [1]
        limits = [build.constant(f"{name}.{i}", np.asarray(n, np.int64)) for i, n in enumerate(numbers)]
        made.append(build.add("Slice", [packed, *limits], name, shape))
    return made


def _project(build: Builder, source: ir.Value, weight: Weights, bias: Weights | None, name: str) -> ir.Value:
    shape = (*(static_shape(source) or ())[:-1], len(weight))
    rows = build.add("MatMul", [source, build.constant(f"{name}.weight", weight.T)], name, shape)
    if bias is None:
        return rows
    return build.add("Add", [rows, build.constant(f"{name}.bias", bias)], f"{name}/bias", shape)


def _split_heads(build: Builder, rows: ir.Value, attention: Attention, heads: int, name: str) -> ir.Value:
    lead, tokens, width = attention.windows, attention.tokens, attention.head_width
    split = build.reshape(rows, (lead, tokens, heads, width), f"{name}/heads")
    return build.add("Transpose", [split], f"{name}/turn_heads", (lead, heads, tokens, width), perm=[0, 2, 1, 3])
