"""Compute a convolution on the smaller map, where it reads what a Resize enlarges.

A Resize mixes the places of each channel alike, a 1 × 1 convolution the channels of each place alike: they may change
places. Cases:
1. A kernel of 1 × 1 (DPT's projections): Conv, Resize. The bias goes with it, as what a place is made of adds up to 1.
2. A larger kernel to few channels (the heatmaps of a pose): each place of the kernel is a 1 × 1 convolution of its own.
   Resizing their results, shifting them by their place in the kernel and adding them up multiplies each axis by a
   constant matrix; what is shifted in from outside the map is 0 there. ViTPose-S: a 16th of the multiplications.

Left alone: a Resize that something else reads or that cuts a part out, channels in groups, and what gets no cheaper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.core.pass_record import PassRecord
from edgevit.graph.builder import Builder
from edgevit.graph.graph import Graph, constant_of, operand, replace_value, static_shape
from edgevit.graph.passes.visit import visit_nodes
from edgevit.graph.patterns.pieces import MismatchError
from edgevit.graph.patterns.resizes import check_enlarging, count_split, read_matrices, shift_matrix

Values = npt.NDArray[np.float32]

_FLOAT_COST = 4  # a multiplication in float over one in INT8, which only the convolution's become
_WORTH = 0.5  # of the multiplications before: the moves between the products take time too


@dataclass(frozen=True)
class _Pair:
    """A Resize and the convolution that reads it.

    Attributes:
        before: ``(B, C, h, w)``, what is resized.
        resized: ``(B, C, h', w')``.
        after: ``(B, N, H, W)``, what the convolution gives.
        kernel: ``(N, C, k, l) float32``.
        bias: ``(N,) float32``.
    """

    resize: ir.Node
    conv: ir.Node
    before: tuple[int, ...]
    resized: tuple[int, ...]
    after: tuple[int, ...]
    kernel: Values
    bias: Values

    @property
    def is_pointwise(self) -> bool:
        """Whether every place of its result reads the same place."""
        pads, strides = self.conv.attributes.get_ints("pads") or (), self.conv.attributes.get_ints("strides") or ()
        return self.kernel.shape[2:] == (1, 1) and not any(pads) and all(step == 1 for step in strides)


def move_convolution(graph: Graph) -> PassRecord:
    """Rewrite in place; exact to rounding."""

    def rewrite(node: ir.Node) -> bool:
        resize = node.inputs[0].producer() if node.op_type == "Conv" and node.inputs[0] is not None else None
        if resize is None or resize.op_type != "Resize":
            return False
        pair = _read_pair(resize, node)
        if pair.is_pointwise:
            _swap(graph, pair)
        else:
            _split(graph, pair)
        return True

    return visit_nodes(graph, "move_convolution", rewrite)


def _read_pair(resize: ir.Node, conv: ir.Node) -> _Pair:
    """Raises MismatchError where they cannot change places."""
    check_enlarging(resize, conv)
    before, resized, after = (static_shape(v) for v in (resize.inputs[0], resize.outputs[0], conv.outputs[0]))
    if before is None or resized is None or after is None or len(after) != 4:
        raise MismatchError(conv, "its sizes are not static")
    kernel = constant_of(conv.inputs[1])
    has_bias = len(conv.inputs) > 2 and conv.inputs[2] is not None
    bias = constant_of(conv.inputs[2]) if has_bias else None
    if kernel is None or (has_bias and bias is None):
        raise MismatchError(conv, "its kernel is computed")
    if conv.attributes.get_int("group", 1) != 1:
        raise MismatchError(conv, "its channels are in groups")
    if conv.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        raise MismatchError(conv, "its padding is not stated in numbers")
    kernel = np.asarray(kernel, np.float32)
    biases = np.zeros(len(kernel), np.float32) if bias is None else np.asarray(bias, np.float32)
    return _Pair(resize, conv, before, resized, after, kernel, biases)


def _swap(graph: Graph, pair: _Pair) -> None:
    """Case 1."""
    resize, conv = pair.resize, pair.conv
    if pair.after[1] > pair.before[1]:
        raise MismatchError(conv, "more channels would be resized")
    for matrix in read_matrices(pair.resize):
        if np.abs(matrix.sum(axis=1) - 1).max() > 1e-5:
            raise MismatchError(conv, "what a resized place is made of does not add up to 1")
    sizes = constant_of(resize.inputs[3])
    assert sizes is not None
    whole = [*pair.after[:2], *pair.resized[2:]] if len(sizes) == 4 else list(sizes)
    source, value, result = operand(resize), resize.outputs[0], conv.outputs[0]
    conv.replace_input_with(0, source)
    resize.replace_input_with(3, graph.add_constant(f"{conv.name}.sizes", np.asarray(whole, np.int64)))
    replace_value(result, value)
    resize.replace_input_with(0, result)
    value.shape, result.shape = result.shape, ir.Shape([*pair.after[:2], *pair.before[2:]])
    graph.model.graph.remove(resize)
    graph.model.graph.insert_after(conv, [resize])


def _split(graph: Graph, pair: _Pair) -> None:
    """Case 2."""
    conv, kernel = pair.conv, pair.kernel
    (batch, channels, height, width), (_, count, rows, columns) = pair.before, pair.after
    high, wide = kernel.shape[2:]
    moved, resized = count_split(conv, channels, pair.before)
    if moved + _FLOAT_COST * resized > _WORTH * rows * columns * kernel.size:
        raise MismatchError(conv, "it would take as long on the smaller map")
    by_row, by_column = (shift_matrix(conv, axis, matrix) for axis, matrix in enumerate(read_matrices(pair.resize)))
    whole = [next((i for i, m in enumerate(maps) if np.allclose(m.sum(axis=1), 1, atol=1e-5)), None)
             for maps in (by_row, by_column)]  # fmt: skip
    if pair.bias.any() and None in whole:
        raise MismatchError(conv, "no place of its kernel lies inside the map everywhere, for its bias to stand there")
    # Channels as (N, l, k): those that one axis adds up lie together.
    weight = kernel.transpose(0, 3, 2, 1).reshape(-1, channels, 1, 1)
    bias = np.zeros((count, wide, high), np.float32)
    if pair.bias.any():
        bias[:, whole[1], whole[0]] = pair.bias
    build = Builder(graph, conv.name or conv.op_type, conv)
    small = [batch, len(weight), height, width]
    value = build.add(
        "Conv",
        [operand(pair.resize), build.constant("weight.places", weight), build.constant("bias.places", bias.ravel())],
        "places",
        small,
    )
    value = build.reshape(value, [batch, count * wide, high * height, width], "rows.before")
    value = build.add("Transpose", [value], "rows.turned", [*small[:1], count * wide, width, high * height], perm=_TURN)
    value = _multiply(build, value, by_row, "rows")
    value = build.reshape(value, [batch, count, wide * width, rows], "columns.before")
    value = build.add("Transpose", [value], "columns.turned", [batch, count, rows, wide * width], perm=_TURN)
    value = _multiply(build, value, by_column, "columns")
    build.insert(conv, conv.outputs[0], value)


_TURN = (0, 1, 3, 2)


def _multiply(build: Builder, value: ir.Value, maps: list[Values], name: str) -> ir.Value:
    """``(B, n, m, k · h)`` by the places of an axis of the kernel: ``(B, n, m, H)``."""
    matrix = np.concatenate([one.T for one in maps])
    shape = [*(static_shape(value) or ())[:3], matrix.shape[1]]
    return build.add("MatMul", [value, build.constant(f"{name}.weight", matrix)], name, shape)
