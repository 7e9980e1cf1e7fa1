"""Pre-norm blocks in a graph, read backwards along the residual stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from edgevit.graph.graph import operand, producer_of, reduced_axes, static_shape
from edgevit.graph.movement import NOWHERE, Index, View
from edgevit.graph.patterns.attention import Attention, find_attention, find_output_projection
from edgevit.graph.patterns.pieces import (
    Linear,
    MismatchError,
    Norm,
    Weights,
    find_linear,
    find_norm,
    flat_source,
    look,
    name_parameters,
    producer,
    token_rows,
)


@dataclass(frozen=True)
class Block:
    """One encoder block.

    Attributes:
        source: The residual stream in front of it.
        attention: With ``rows`` of the norm's tokens.
        enter: ``(X, N)``: the token that comes to each place of each window; ``NOWHERE`` for padding.
        leave: ``(L,)``: the place ``x·N + n`` that comes back to each token.
        tensors: By their names in a canonical block.
        shift: ``(L, C)``: a constant that is added to the stream in front of it, behind ``source``; ``None`` for none.
        places: ``(L,)``: the token of ``source`` that each token is, where some join it in front of the block:
            ``NOWHERE`` for those, which are what ``shift`` has for them. ``None`` where none does.
    """

    source: ir.Value
    attention: Attention
    enter: Index
    leave: Index
    mlp_width: int
    activation: str
    epsilon: float
    biased: bool
    tensors: Mapping[str, Weights] = field(default_factory=dict)
    shift: Weights | None = None
    places: Index | None = None


def find_block(result: ir.Value) -> Block:
    """The block whose result is a value of the residual stream.

    Raises:
        MismatchError: What was expected and is not there.
    """
    middle, (fc1, fc2), activation, norm2 = _find_mlp(result)
    stream, branch = _sides(middle)
    view = look(branch)
    context = producer(look(find_linear(view).source), "MatMul")
    attention = find_attention(context, rotary=True)
    weight, bias, leave = find_output_projection(attention, view)
    norm1 = find_norm(View(attention.q.source, np.zeros(0, np.int64)))
    source = flat_source(norm1.source)
    if flat_source(stream) is not source:
        raise MismatchError(middle.producer(), "what attention is added to is not what it reads")
    if norm1.epsilon != norm2.epsilon:
        raise MismatchError(norm2.node, f"its epsilon {norm2.epsilon:g} is not that of the block's other norm")
    source, shift, places = _split_shift(source)
    packed, biased = _pack(attention)
    tensors = {
        **name_parameters("norm1", norm1),
        **name_parameters("norm2", norm2),
        "attn.proj.weight": weight,
        "attn.proj.bias": bias,
        **name_parameters("mlp.fc1", fc1),
        **name_parameters("mlp.fc2", fc2),
        **packed,
    }
    enter, mlp_width = attention.q.rows, len(fc1.weight)
    return Block(source, attention, enter, leave, mlp_width, activation, norm1.epsilon, biased, tensors, shift, places)


def find_start(result: ir.Value) -> ir.Value:
    """The stream in front of what has a block's MLP and its two residual sums, whatever its attention is.

    Raises:
        MismatchError: It does not have them.
    """
    middle = _find_mlp(result)[0]
    return _split_shift(flat_source(_sides(middle)[0]))[0]


def is_sum(stream: ir.Value) -> bool:
    """Whether a stream is a sum of two activations here, as behind a block."""
    node = stream.producer()
    return node is not None and node.op_type == "Add" and all(v and v.const_value is None for v in node.inputs)


def _split_shift(stream: ir.Value) -> tuple[ir.Value, Weights | None, Index | None]:
    """The result of the block before, the constant ``(L, C)`` that is added between, and where tokens join it."""
    view = look(stream)
    if view.source is None or not is_sum(view.source) or view.offset is None or not isinstance(view.scale, float):
        return stream, None, None
    places = None if view.is_flat else _find_places(view)
    if view.scale != 1.0 or not (view.is_flat or places is not None):
        return stream, None, None
    return view.source, view.offset.reshape(-1, view.shape[-1]).astype(np.float32), places


def _find_places(view: View) -> Index | None:
    """Which token of the source each token is, where every one of them is there, and constants too."""
    node, shape = view.nodes[-1], static_shape(view.source)
    try:
        places = token_rows(replace(view, offset=None), node)
    except MismatchError:
        return None
    count = int(np.prod(shape or (0,))) // view.shape[-1]
    kept = places[places != NOWHERE]
    return places if len(places) > len(kept) and np.array_equal(np.sort(kept), np.arange(count)) else None


def _sides(value: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Stream and branch of a residual Add: the branch ends in a product, the stream in another Add or what is ahead."""
    node = value.producer()
    if node is None or node.op_type != "Add" or any(v is None or v.const_value is not None for v in node.inputs):
        raise MismatchError(node, "it is no residual Add")
    left, right = operand(node), operand(node, 1)
    ends = [producer_of(look(side).source) for side in (left, right)]
    is_branch = [end is not None and end.op_type in ("MatMul", "Gemm") for end in ends]
    if is_branch == [True, False]:
        return right, left
    if is_branch == [False, False] and ends[1] is not None and ends[1].op_type in ("Add", "Concat"):
        return right, left
    return left, right


def _find_mlp(result: ir.Value) -> tuple[ir.Value, tuple[Linear, Linear], str, Norm]:
    node = result.producer()
    stream, branch = _sides(result)
    fc2 = find_linear(branch)
    hidden = look(fc2.source)
    act = producer(hidden, "Gelu", "Relu", "Mul")
    activation, argument = _find_activation(act)
    if not (hidden.moves_alone and hidden.is_flat and _in_order(fc2.rows)):
        raise MismatchError(act, "the MLP's hidden tokens are scaled or rearranged")
    fc1 = find_linear(argument)
    source = look(fc1.source)
    norm = find_norm(source)
    if not (source.moves_alone and source.is_flat and _in_order(fc1.rows)):
        raise MismatchError(fc1.node, "the MLP's tokens are rearranged")
    middle = flat_source(norm.source)
    if flat_source(stream) is not middle:
        raise MismatchError(node, "what the MLP is added to is not what it reads")
    return middle, (fc1, fc2), activation, norm


def _find_activation(node: ir.Node) -> tuple[str, ir.Value]:
    """Its canonical name, and what it reads."""
    if node.op_type == "Relu":
        return "relu", operand(node)
    if node.op_type == "Gelu":
        tanh = node.attributes.get_string("approximate") == "tanh"
        return ("gelu_tanh" if tanh else "gelu"), operand(node)
    for value, gate in (node.inputs, node.inputs[::-1]):
        sigmoid = producer_of(gate)
        if value is None or sigmoid is None or sigmoid.op_type != "Sigmoid":
            continue
        inside, plain = look(operand(sigmoid)), look(value)
        if inside.source is not plain.source or not np.array_equal(inside.index, plain.index):
            continue
        ratio = _ratio(inside, plain)
        for name, factor in (("silu", 1.0), ("quick_gelu", 1.702)):
            if ratio is not None and abs(ratio - factor) < 1e-6:
                return name, value
    raise MismatchError(node, "it is no activation that the canonical model has")


def _ratio(inside: View, plain: View) -> float | None:
    """What the sigmoid's argument is to the value, bias included."""
    if not isinstance(inside.scale, float) or not isinstance(plain.scale, float):
        return None
    ratio = inside.scale / plain.scale
    offsets = [np.zeros(1) if view.offset is None else view.offset for view in (inside, plain)]
    return ratio if np.allclose(offsets[0], offsets[1] * ratio, rtol=1e-5, atol=1e-7) else None


def _in_order(rows: Index) -> bool:
    return bool((rows == np.arange(len(rows))).all())


def _pack(attention: Attention) -> tuple[dict[str, Weights], bool]:
    """q, k and v as one projection, scaled so that the canonical ``1/√d`` gives the graph's scores."""
    parts = [attention.q, attention.k, attention.v]
    gain = attention.scale * attention.head_width**0.5
    biased = any(part.bias is not None for part in parts)
    weights = [part.weight for part in parts]
    biases = [np.zeros(len(p.weight), np.float32) if p.bias is None else p.bias for p in parts]
    if abs(gain - 1.0) > 1e-6:  # else the usual 1/√d, as it was rounded on the way
        weights[0] = (weights[0] * gain).astype(np.float32)
        biases[0] = (biases[0] * gain).astype(np.float32)
    packed = {"attn.qkv.weight": np.concatenate(weights)}
    if biased:
        packed["attn.qkv.bias"] = np.concatenate(biases)
    return packed, biased


def check_alike(blocks: Sequence[Block], *names: str) -> None:
    """Raise MismatchError where a block's attribute of one of these names is not the first block's."""
    for block in blocks:
        for name in names:
            if getattr(block, name) != getattr(blocks[0], name):
                raise MismatchError(block.attention.context, f"its {name.replace('_', ' ')} is not the first block's")


@dataclass(frozen=True)
class Pooled:
    """What a head reads.

    Attributes:
        stream: Behind the last block.
        token: The one token that is read; ``None`` for the mean.
        first: Tokens in front of those that the mean is over.
        before: The norm on all tokens, or on the one.
        after: The norm on the mean.
        beside: Whether the mean is read too, its channels behind the token's.
    """

    stream: ir.Value
    token: int | None
    first: int
    before: Norm | None
    after: Norm | None
    beside: bool = False


def find_pool(value: ir.Value) -> Pooled:
    """Follow a head's input back to the residual stream."""
    view = look(value)
    after = None
    node = producer(view, "LayerNormalization", "ReduceMean", "GlobalAveragePool", "Concat")
    if node.op_type == "Concat":
        return _find_token_and_mean(view, node)
    if node.op_type == "LayerNormalization":
        norm = find_norm(view)
        rows = token_rows(view, node)
        if len(rows) != 1:
            raise MismatchError(node, f"the head reads {len(rows)} tokens")
        inner = look(norm.source)
        pooled = producer_of(inner.source)
        if pooled is None or pooled.op_type not in ("ReduceMean", "GlobalAveragePool"):
            # The norm of one token, or one token of the norm of all.
            return _one_token(norm, int(rows[0]), inner)
        after, view, node = norm, inner, pooled
    count, rows, source = _find_mean(view, node)
    before = None
    inside = source.producer()
    if inside is not None and inside.op_type == "LayerNormalization":
        before = find_norm(View(source, np.zeros(0, np.int64)))
        source = flat_source(before.source)
    first = int(rows[0])
    if not bool((rows == np.arange(first, count)).all()):
        raise MismatchError(node, "the mean is over tokens that do not follow one another up to the last")
    return Pooled(source, None, first, before, after)


def _find_token_and_mean(view: View, node: ir.Node) -> Pooled:
    """DINOv2's classifier: the class token and the mean of the patches, side by side."""
    if not (view.moves_alone and view.is_flat and len(node.inputs) == 2):
        raise MismatchError(node, "the head reads no token with the mean of the others behind it")
    token, mean = (find_pool(value) for value in node.inputs if value is not None)
    halves = token.token == 0 and mean.token is None and not (token.beside or mean.beside or mean.after)
    if not halves or token.stream is not mean.stream or not same_norm(token.before, mean.before):
        raise MismatchError(node, "the head reads no token with the mean of the others behind it")
    return replace(token, first=mean.first, beside=True)


def same_norm(one: Norm | None, two: Norm | None) -> bool:
    """One norm of all tokens, or the same norm of several of them."""
    if one is None or two is None:
        return one is two
    same = np.array_equal(one.weight, two.weight) and np.array_equal(one.bias, two.bias)
    return same and one.epsilon == two.epsilon


def _one_token(norm: Norm, row: int, inner: View) -> Pooled:
    if inner.source is None:
        raise MismatchError(norm.node, "it reads a constant")
    rows = token_rows(inner, norm.node)
    return Pooled(inner.source, int(rows[row]), 0, norm, None)


def _find_mean(view: View, node: ir.Node) -> tuple[int, Index, ir.Value]:
    """Tokens of the source in all, those that the mean is over, and the source ``(…, C)``."""
    inner = look(operand(node))
    shape, width = static_shape(inner.source), view.index.size
    if inner.source is None or shape is None or not inner.moves_alone or not view.moves_alone:
        raise MismatchError(node, "the mean is of changed tokens")
    result = static_shape(node.outputs[0]) or ()
    axes = _mean_axes(node, len(inner.shape))
    kept = [a for a in range(len(inner.shape)) if a not in axes]
    index = inner.index.transpose([*axes, *kept]).reshape(-1, width if int(np.prod(result)) == width else 1)
    if shape[-1] != width or index.shape[1] != width or bool((index == NOWHERE).any()):
        raise MismatchError(node, "the mean is not only over tokens")
    rows, columns = np.divmod(index, width)
    order = view.index.reshape(-1)
    if not bool((rows == rows[:, :1]).all() and (columns[:, order] == np.arange(width)).all()):
        raise MismatchError(node, "the mean is not only over tokens")
    return int(np.prod(shape[:-1])), np.sort(rows[:, 0]), inner.source


def _mean_axes(node: ir.Node, rank: int) -> list[int]:
    if node.op_type == "GlobalAveragePool":
        return list(range(2, rank))
    axes = reduced_axes(node)
    if not axes:
        raise MismatchError(node, "the mean is over everything")
    return sorted(axis % rank for axis in axes)
