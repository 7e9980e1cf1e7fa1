"""Multi-head attention in a graph: however q, k and v are packed, permuted and scaled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from edgevit.graph.graph import constant_of, operand, producer_of, static_shape
from edgevit.graph.movement import Index, View
from edgevit.graph.patterns.pieces import MismatchError, Weights, find_linear, find_product, look, producer, token_rows
from edgevit.graph.patterns.turned import Turned, find_turned


@dataclass(frozen=True)
class Projection:
    """What makes queries, keys or values of tokens.

    Attributes:
        source: What is projected, ``(…, C)``, before it was moved.
        rows: ``(X, N)``: which row of the source becomes each token of each window.
        moved: The same where the product reads it.
        moved_rows: ``(X, N)``: which row of that.
        weight: ``(A·D, C) float32``, heads in order.
        bias: ``(A·D,) float32``, or ``None``.
        scale: What the projection is multiplied by.
        product: The node.
    """

    source: ir.Value
    rows: Index
    moved: ir.Value
    moved_rows: Index
    weight: Weights
    bias: Weights | None
    scale: float
    product: ir.Node

    def times(self, factor: float) -> Projection:
        """One whose weight and bias hold a factor in place of ``scale``."""
        by = np.float32(factor)
        return replace(self, weight=self.weight * by, bias=None if self.bias is None else self.bias * by, scale=1.0)


@dataclass(frozen=True)
class Attention:
    """``softmax(scale · q·kᵀ + bias) · v`` of ``X`` windows (one, where attention is global).

    Attributes:
        bias: ``(X or 1, A, N, N) float32``, or ``None``.
        scale: On the scores, those of q and k included.
        context: The node that gives the result.
        softmax: The node between.
        turned: How rotary positions turn queries and keys behind their projections; ``None`` where none do.
    """

    q: Projection
    k: Projection
    v: Projection
    heads: int
    windows: int
    tokens: int
    scale: float
    bias: Weights | None
    context: ir.Node
    softmax: ir.Node
    turned: Turned | None = None

    @property
    def head_width(self) -> int:
        """Channels of a head."""
        return int(self.q.weight.shape[0]) // self.heads


def find_attention(context: ir.Node, *, rotary: bool = False) -> Attention:
    """Read the attention whose product of probabilities and values is ``context``.

    Args:
        context: A MatMul.
        rotary: Whether queries and keys may be turned between their projections and their product.

    Raises:
        MismatchError: It is none, or one that does not have this form.
    """
    if context.op_type != "MatMul" or any(constant_of(v) is not None for v in context.inputs):
        raise MismatchError(context, "it is no product of two activations")
    probabilities = look(operand(context))
    softmax = producer(probabilities, "Softmax")
    shape = static_shape(softmax.inputs[0])
    axis = softmax.attributes.get_int("axis", -1)
    if shape is None or axis not in (-1, len(shape) - 1):
        raise MismatchError(softmax, "it is not over the last axis")
    if not (probabilities.moves_alone and probabilities.is_flat):
        raise MismatchError(softmax, "probabilities are changed before they meet the values")
    scores = look(operand(softmax))
    added = producer_of(scores.source)
    if added is not None and added.op_type == "Add":
        raise MismatchError(softmax, "a mask or bias that the model computes is added to its scores")
    product = producer(scores, "MatMul")
    if not isinstance(scores.scale, float) or not scores.is_flat:
        raise MismatchError(softmax, "scores are rearranged or scaled by more than one number")
    if any(constant_of(v) is not None for v in product.inputs):
        raise MismatchError(softmax, "its scores are no product of queries and keys")
    queries = look(operand(product))
    keys = look(operand(product, 1)).move(lambda table: table.swapaxes(-1, -2))  # as (…, N, D)
    turned: Turned | None = None
    if rotary:
        (queries, turned), (keys, also) = _turn_back(queries), _turn_back(keys)
        if (turned is None) != (also is None) or (turned and also and not turned.equals(also)):
            raise MismatchError(product, "queries and keys are turned in different ways")
    sides = queries, keys, look(operand(context, 1))
    tokens, width = sides[0].shape[-2:]
    lead = sides[0].index.size // (tokens * width)
    if any(view.index.size != lead * tokens * width or view.shape[-2:] != (tokens, width) for view in sides):
        raise MismatchError(product, "queries, keys and values differ in number or width")
    heads = _count_heads(sides[0], lead)
    q, k, v = (_find_projection(view, lead // heads, heads, tokens, width) for view in sides)
    if v.scale != 1.0:
        v = v.times(v.scale)
    for other in (k, v):
        if other.source is not q.source or not np.array_equal(other.rows, q.rows):
            raise MismatchError(other.product, "queries, keys and values are not those of the same tokens")
    bias = None
    if scores.offset is not None and bool(scores.offset.any()):
        bias = scores.offset.reshape(lead // heads, heads, tokens, tokens).astype(np.float32)
        if bool((bias == bias[:1]).all()):
            bias = bias[:1]
    scale = scores.scale * q.scale * k.scale
    return Attention(q, k, v, heads, lead // heads, tokens, scale, bias, context, softmax, turned)


def _turn_back(view: View) -> tuple[View, Turned | None]:
    """The view ``(…, N, D)`` as if its numbers had not been turned, and how they were."""
    try:
        turned = find_turned(view.source) if view.source is not None else None
    except ValueError as exc:
        raise MismatchError(producer_of(view.source), str(exc)) from exc
    if turned is None or view.offset is not None or not isinstance(view.scale, float):
        return view, None
    tokens, width = turned.cos.shape
    place = np.arange(tokens * width).reshape(tokens, width)
    if view.shape[-2:] != place.shape or not bool((view.index % place.size == place).all()):
        return view, None  # tokens or channels change places behind it
    inner, at = look(turned.source), view.index
    scale = inner.scale if isinstance(inner.scale, float) else inner.scale.reshape(-1)[at]
    offset = None if inner.offset is None else inner.offset.reshape(-1)[at] * view.scale
    nodes = (*inner.nodes, *view.nodes)
    return View(inner.source, inner.index.reshape(-1)[at], scale * view.scale, offset, nodes), turned


def _count_heads(view: View, lead: int) -> int:
    """How many different groups of channels the leading axes hold."""
    product = find_product(view)
    columns = view.index.reshape(lead, -1)[:, 0] % product.weight.shape[1]
    return len(np.unique(columns))


def _find_projection(view: View, windows: int, heads: int, tokens: int, width: int) -> Projection:
    product = find_product(view)
    node, columns = product.node, product.weight.shape[1]
    index = view.index.reshape(windows, heads, tokens, width)
    if int(index.min()) < 0:
        raise MismatchError(node, "a part of it is constant")
    rows, channels = np.divmod(index, columns)
    row, channel = rows[:, :1, :, :1], channels[:1, :, :1, :]
    if not bool((rows == row).all() and (channels == channel).all()):
        raise MismatchError(node, "windows, heads, tokens and channels are not apart behind it")
    order = channel.reshape(-1)
    bias, biased = np.zeros(heads * width), product.node.op_type == "Gemm"
    scale = view.scale
    if not isinstance(scale, float):
        raise MismatchError(node, "it is scaled by more than one number")
    if view.offset is not None:
        table = view.offset.reshape(index.shape)
        one = table[:1, :, :1, :]
        if not bool((table == one).all()):
            raise MismatchError(node, "what is added to it differs from token to token")
        bias, biased = bias + one.reshape(-1) / scale, True
    bias = bias + product.bias[order]
    moved = look(product.source)
    if moved.source is None:
        raise MismatchError(node, "it reads a constant")
    places = row.reshape(windows, tokens)
    return Projection(
        moved.source,
        token_rows(moved, node)[places],
        product.source,
        places,
        np.ascontiguousarray(product.weight[:, order].T, dtype=np.float32),
        bias.astype(np.float32) if biased else None,
        scale,
        node,
    )


def find_output_projection(attention: Attention, view: View) -> tuple[Weights, Weights, Index]:
    """The Linear behind the context.

    Args:
        attention: What it reads.
        view: Of its result, ``(…, C)``.

    Returns:
        Weight ``(C, A·D)`` with heads in order, bias, and which token of which window, ``x·N + n``, comes to each row
        of the view.
    """
    linear = find_linear(view)
    moved = look(linear.source)
    heads, tokens, width = attention.heads, attention.tokens, attention.head_width
    columns = heads * width
    if moved.source is not attention.context.outputs[0] or not moved.moves_alone or moved.index.size % columns:
        raise MismatchError(linear.node, "it does not read only the context")
    index = moved.index.reshape(-1, columns)
    if int(index.min()) < 0:
        raise MismatchError(linear.node, "a part of what it reads is constant")
    # ((x·A + a)·N + n)·D + d
    rest, channel = np.divmod(index, width)
    rest, token = np.divmod(rest, tokens)
    window, head = np.divmod(rest, heads)
    place, order = window * tokens + token, head * width + channel
    if not bool((place == place[:, :1]).all() and (order == order[:1]).all()):
        raise MismatchError(linear.node, "tokens and channels are mixed in what it reads")
    weight = np.empty_like(linear.weight)
    weight[:, order[0]] = linear.weight
    return weight, linear.bias, place[:, 0][linear.rows]
