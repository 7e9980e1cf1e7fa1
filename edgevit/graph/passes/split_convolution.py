"""Split a convolution by the maps that it reads side by side, and compute those that a Resize enlarges on the smaller.

A pyramid's levels are enlarged to one size, put together and mixed by one convolution: UperNet's takes more than half
of the whole model's time. It is the sum of a convolution of each level. Of an enlarged one, each place of the kernel is
a 1 × 1 convolution of the smaller map; resizing those and shifting them to their place multiplies each axis by a
constant matrix. Maps that stay large keep one convolution, with its name and its bias. UperNet on Swin-T at 224: a
third of the multiplications, and 0.41 of the time of this part with OpenVINO in INT8.

Channels lie last in what is made, and what a product adds up beside one another, so that nothing has to be turned.
Left alone: see :func:`edgevit.graph.patterns.resizes.check_enlarging`; channels in groups; levels that get no cheaper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.core.pass_record import PassRecord
from edgevit.graph.builder import Builder
from edgevit.graph.graph import Graph, constant_of, known_shape, operand, static_shape
from edgevit.graph.passes.move_convolution import FLOAT_COST, WORTH
from edgevit.graph.passes.visit import visit_nodes
from edgevit.graph.patterns.pieces import MismatchError
from edgevit.graph.patterns.resizes import check_enlarging, count_split, read_matrices, shift_matrix

Values = npt.NDArray[np.float32]

_LAST, _FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # channels


@dataclass(frozen=True)
class _Level:
    """One of the maps that stand side by side.

    Attributes:
        value: ``(B, C, H, W)``.
        channels: Those that it has of the convolution's.
        matrices: What its Resize does along each axis, ``(H, h)`` and ``(W, w)``; ``None`` where it stays.
        small: ``(B, C, h, w)``, what is resized; ``None`` where it stays.
    """

    value: ir.Value
    channels: slice
    matrices: tuple[Values, Values] | None = None
    small: ir.Value | None = None


def split_convolution(graph: Graph) -> PassRecord:
    """Rewrite in place; exact to rounding."""

    def rewrite(node: ir.Node) -> bool:
        concat = node.inputs[0].producer() if node.op_type == "Conv" and node.inputs[0] is not None else None
        if concat is None or concat.op_type != "Concat":
            return False
        if not any(_find_resize(value) for value in concat.inputs):
            return False
        _split(graph, concat, node, _read_levels(concat, node))
        return True

    return visit_nodes(graph, "split_convolution", rewrite)


def _find_resize(value: ir.Value | None) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == "Resize" else None


def _read_levels(concat: ir.Node, conv: ir.Node) -> list[_Level]:
    """Raises MismatchError where none of them gets cheaper."""
    joined, kernel = concat.outputs[0], constant_of(conv.inputs[1])
    if len(joined.uses()) != 1 or joined.is_graph_output():
        raise MismatchError(conv, "something else reads the maps together")
    before, after = static_shape(joined), static_shape(conv.outputs[0])
    shapes = [static_shape(value) for value in concat.inputs]
    if before is None or after is None or len(after) != 4 or any(shape is None for shape in shapes):
        raise MismatchError(conv, "its sizes are not static")
    if concat.attributes.get_int("axis", 0) % 4 != 1:
        raise MismatchError(conv, "the maps do not stand side by side as channels")
    if kernel is None or (len(conv.inputs) > 2 and conv.inputs[2] is not None and constant_of(conv.inputs[2]) is None):
        raise MismatchError(conv, "its kernel is computed")
    if conv.attributes.get_int("group", 1) != 1:
        raise MismatchError(conv, "its channels are in groups")
    if conv.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        raise MismatchError(conv, "its padding is not stated in numbers")
    levels, start, reason = [], 0, ""
    for value, shape in zip(concat.inputs, shapes, strict=True):
        assert value is not None
        assert shape is not None
        channels = slice(start, start + shape[1])
        start += shape[1]
        level, resize = _Level(value, channels), _find_resize(value)
        if resize is not None:
            try:
                level = _read_level(resize, conv, channels)
            except MismatchError as exc:
                reason = exc.reason
        levels.append(level)
    if all(level.matrices is None for level in levels):
        raise MismatchError(conv, reason)
    return levels


def _read_level(resize: ir.Node, conv: ir.Node, channels: slice) -> _Level:
    """Raises MismatchError where it had better stay."""
    check_enlarging(resize, conv)
    small, count = operand(resize), channels.stop - channels.start
    (filters, _, high, wide), (_, _, rows, columns) = known_shape(conv.inputs[1]), known_shape(conv.outputs[0])
    moved, resized = count_split(conv, count, known_shape(small))
    if moved + FLOAT_COST * resized > WORTH * rows * columns * filters * count * high * wide:
        raise MismatchError(conv, "it would take as long on the smaller maps")
    return _Level(resize.outputs[0], channels, read_matrices(resize), small)


def _split(graph: Graph, concat: ir.Node, conv: ir.Node, levels: list[_Level]) -> None:
    build, kernel = Builder(graph, conv.name or conv.op_type, conv), constant_of(conv.inputs[1])
    assert kernel is not None
    shape, result = known_shape(conv.outputs[0]), conv.outputs[0]
    bias = conv.inputs[2] if len(conv.inputs) > 2 else None
    value: ir.Value | None = None
    for place, level in enumerate(levels):
        if level.matrices is not None:
            part = _add_level(build, conv, level, kernel[:, level.channels], f"level{place}")
            value = part if value is None else build.add("Add", [value, part], f"level{place}.sum", part.shape)
    assert value is not None
    kept = [level for level in levels if level.matrices is None]
    if not kept and bias is not None:
        value = build.add("Add", [value, bias], "biased", value.shape)
    value = build.add("Transpose", [value], "turned", shape, perm=_FIRST)
    inner, uses, at_end = graph.model.graph, list(result.uses()), result.is_graph_output()
    if kept:
        _keep(graph, concat, conv, kept, kernel)
        value = build.add("Add", [result, value], "sum", shape)
    inner.insert_after(conv, build.nodes)
    for use in uses:
        use.node.replace_input_with(use.idx, value)
    if at_end:
        inner.outputs[list(inner.outputs).index(result)] = value
        result.name, value.name = value.name, result.name


def _keep(graph: Graph, concat: ir.Node, conv: ir.Node, kept: list[_Level], kernel: Values) -> None:
    """Leave the convolution the maps that stay."""
    name, own = conv.name or conv.op_type, np.concatenate([kernel[:, level.channels] for level in kept], axis=1)
    conv.replace_input_with(1, graph.add_constant(f"{name}.weight.kept", own))
    if len(kept) == 1:
        conv.replace_input_with(0, kept[0].value)
        return
    before = known_shape(concat.outputs[0])
    build = Builder(graph, concat.name or concat.op_type, concat)
    joined = build.add(
        "Concat", [level.value for level in kept], "kept", [before[0], own.shape[1], *before[2:]], axis=1
    )
    graph.model.graph.insert_after(concat, build.nodes)
    conv.replace_input_with(0, joined)


def _add_level(build: Builder, conv: ir.Node, level: _Level, kernel: Values, name: str) -> ir.Value:
    """What an enlarged map adds to the convolution's result: ``(B, H, W, N)``."""
    assert level.matrices is not None
    assert level.small is not None
    (batch, channels, height, width), (count, _, high, wide) = known_shape(level.small), kernel.shape
    _, _, rows, columns = known_shape(conv.outputs[0])
    by_row, by_column = (shift_matrix(conv, axis, matrix) for axis, matrix in enumerate(level.matrices))
    lines = []
    for place in range(high):  # channels as (l, N)
        weight = np.ascontiguousarray(kernel[:, :, place].transpose(2, 0, 1)).reshape(-1, channels, 1, 1)
        stem, shape = f"{name}.row{place}", [batch, wide * count, height, width]
        line = build.add("Conv", [level.small, build.constant(f"{stem}.weight", weight)], stem, shape)
        line = build.add("Transpose", [line], f"{stem}.turned", [batch, height, width, wide * count], perm=_LAST)
        lines.append(build.reshape(line, [batch, height, width * wide * count], f"{stem}.flat"))
    value = lines[0]
    if high > 1:
        value = build.add("Concat", lines, f"{name}.rows", [batch, high * height, width * wide * count], axis=1)
    matrix = build.constant(f"{name}.rows.weight", np.concatenate(by_row, axis=1))
    value = build.add("MatMul", [matrix, value], f"{name}.rows.resized", [batch, rows, width * wide * count])
    value = build.reshape(value, [batch, rows, width * wide, count], f"{name}.columns")
    matrix = build.constant(f"{name}.columns.weight", np.stack(by_column, axis=2).reshape(columns, -1))
    return build.add("MatMul", [matrix, value], f"{name}.columns.resized", [batch, rows, columns, count])
