"""Split a convolution by the maps that it reads side by side, and compute those that a Resize enlarges on the smaller.

A pyramid's levels are enlarged to one size, put together and mixed by one convolution: UperNet's takes more than half
of the whole model's time. It is the sum of a convolution of each level. Of an enlarged one, each place of the kernel is
a 1 × 1 convolution of the smaller map; resizing those and shifting them to their place multiplies each axis by a
constant matrix. Maps that stay large keep one convolution, with its name and its bias. A 1 × 1 convolution in front of
the Resize becomes part of those that take its place.

It pays where these products are INT8 as well, and is done for those libraries alone, by the quantiser. With OpenVINO:
UperNet on Swin-T at 224 has a third of the multiplications, and takes 0.66 of the time of the whole model. The first
convolution of DPT's head reads one map, twice as large: 0.69 of the time of this part, 1.36 with products in float.

Channels lie last in what is made, and what a product adds up beside one another, so that only rows change places.
Left alone: see :func:`edgevit.graph.patterns.resizes.check_enlarging`; channels in groups; levels that get no cheaper.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.core.pass_record import PassRecord
from edgevit.graph.builder import Builder
from edgevit.graph.graph import Graph, constant_of, known_shape, operand, producer_of, static_shape
from edgevit.graph.passes.visit import visit_nodes
from edgevit.graph.patterns.pieces import MismatchError
from edgevit.graph.patterns.resizes import check_enlarging, count_split, read_matrices, shift_matrix

Values = npt.NDArray[np.float32]

_LAST, _FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # channels
_WORTH = 0.5  # of the multiplications before: products in INT8 take longer for each of theirs


@dataclass(frozen=True)
class _Level:
    """One of the maps that stand side by side.

    Attributes:
        value: ``(B, C, H, W)``.
        kernel: ``(N, C, k, l)``, the convolution's for it; of a map that is enlarged ``(N, c, k, l)`` for ``small``.
        bias: ``(N, k, l)``, what each place of the kernel adds; ``None`` where the map stays.
        matrices: What its Resize does along each axis, ``(H, h)`` and ``(W, w)``; ``None`` where the map stays.
        small: ``(B, c, h, w)``, what is computed on; ``None`` where the map stays.
    """

    value: ir.Value
    kernel: Values
    bias: Values | None = None
    matrices: tuple[Values, Values] | None = None
    small: ir.Value | None = None


def split_convolution(graph: Graph, kept: Collection[str] = ()) -> PassRecord:
    """Rewrite in place; exact to rounding.

    Args:
        graph: Changed.
        kept: Names of convolutions that stay as they are.
    """

    def rewrite(node: ir.Node) -> bool:
        source = producer_of(node.inputs[0]) if node.op_type == "Conv" and node.name not in kept else None
        if source is None or source.op_type not in ("Concat", "Resize"):
            return False
        if source.op_type == "Concat" and not any(_find_resize(value) for value in source.inputs):
            return False
        _split(graph, node, _read_levels(source, node))
        return True

    return visit_nodes(graph, "split_convolution", rewrite)


def _find_resize(value: ir.Value | None) -> ir.Node | None:
    node = producer_of(value)
    return node if node is not None and node.op_type == "Resize" else None


def _read_levels(source: ir.Node, conv: ir.Node) -> list[_Level]:
    """Raises MismatchError where none of them gets cheaper."""
    joined, kernel = source.outputs[0], constant_of(conv.inputs[1])
    if len(joined.uses()) != 1 or joined.is_graph_output():
        raise MismatchError(conv, "something else reads what it reads")
    maps = list(source.inputs) if source.op_type == "Concat" else [joined]
    before, after, shapes = static_shape(joined), static_shape(conv.outputs[0]), [static_shape(value) for value in maps]
    if before is None or after is None or len(after) != 4 or any(shape is None for shape in shapes):
        raise MismatchError(conv, "its sizes are not static")
    if source.op_type == "Concat" and source.attributes.get_int("axis", 0) % 4 != 1:
        raise MismatchError(conv, "the maps do not stand side by side as channels")
    if kernel is None or (len(conv.inputs) > 2 and conv.inputs[2] is not None and constant_of(conv.inputs[2]) is None):
        raise MismatchError(conv, "its kernel is computed")
    if conv.attributes.get_int("group", 1) != 1:
        raise MismatchError(conv, "its channels are in groups")
    if conv.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        raise MismatchError(conv, "its padding is not stated in numbers")
    levels, start, reason = [], 0, ""
    for value, shape in zip(maps, shapes, strict=True):
        assert value is not None
        assert shape is not None
        level, resize = _Level(value, kernel[:, start : start + shape[1]]), _find_resize(value)
        start += shape[1]
        if resize is not None:
            try:
                level = _read_level(resize, conv, level.kernel)
            except MismatchError as exc:
                reason = exc.reason
        levels.append(level)
    if all(level.matrices is None for level in levels):
        raise MismatchError(conv, reason)
    return levels


def _read_level(resize: ir.Node, conv: ir.Node, kernel: Values) -> _Level:
    """Raises MismatchError where it had better stay."""
    check_enlarging(resize, conv)
    (_, _, rows, columns), small = known_shape(conv.outputs[0]), operand(resize)
    before, bias = kernel.size, np.zeros((len(kernel), *kernel.shape[2:]), np.float32)
    pointwise = producer_of(small)
    if pointwise is not None and _goes_into(pointwise, kernel.shape[1]):
        first = constant_of(pointwise.inputs[1])
        assert first is not None
        if len(pointwise.inputs) > 2 and (shift := constant_of(pointwise.inputs[2])) is not None:
            bias = np.einsum("ncij,c->nij", kernel, shift).astype(np.float32)
        kernel = np.einsum("ncij,cd->ndij", kernel, first[:, :, 0, 0]).astype(np.float32)
        small = operand(pointwise)
    moved, resized = count_split(conv, kernel.shape[1], known_shape(small))
    if moved + resized > _WORTH * rows * columns * before:
        raise MismatchError(conv, "it would take as long on the smaller maps")
    return _Level(resize.outputs[0], kernel, bias, read_matrices(resize), small)


def _goes_into(node: ir.Node, channels: int) -> bool:
    """Whether a node is a 1 × 1 convolution that only its Resize reads, from no more channels than it makes."""
    if node.op_type != "Conv" or len(node.outputs[0].uses()) != 1 or node.outputs[0].is_graph_output():
        return False
    kernel, attributes = constant_of(node.inputs[1]), node.attributes
    constant = len(node.inputs) < 3 or node.inputs[2] is None or constant_of(node.inputs[2]) is not None
    if kernel is None or not constant or kernel.shape[2:] != (1, 1) or kernel.shape[1] > channels:
        return False
    plain = attributes.get_int("group", 1) == 1 and attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
    strides, pads = attributes.get_ints("strides") or (), attributes.get_ints("pads") or ()
    return plain and all(step == 1 for step in strides) and not any(pads)


def _split(graph: Graph, conv: ir.Node, levels: list[_Level]) -> None:
    build, inner = Builder(graph, conv.name or conv.op_type, conv), graph.model.graph
    shape, result = known_shape(conv.outputs[0]), conv.outputs[0]
    bias = conv.inputs[2] if len(conv.inputs) > 2 else None
    value: ir.Value | None = None
    for place, level in enumerate(levels):
        if level.matrices is not None:
            part = _add_level(build, conv, level, f"level{place}")
            value = part if value is None else build.add("Add", [value, part], f"level{place}.sum", part.shape)
    assert value is not None
    kept = [level for level in levels if level.matrices is None]
    if not kept and bias is not None:
        value = build.add("Add", [value, bias], "biased", value.shape)
    value = build.add("Transpose", [value], "turned", shape, perm=_FIRST)
    uses, at_end = list(result.uses()), result.is_graph_output()
    if kept:
        _keep(graph, conv, kept)
        value = build.add("Add", [result, value], "sum", shape)
    inner.insert_after(conv, build.nodes)
    for use in uses:
        use.node.replace_input_with(use.idx, value)
    if at_end:
        inner.outputs[list(inner.outputs).index(result)] = value
        result.name, value.name = value.name, result.name


def _keep(graph: Graph, conv: ir.Node, kept: list[_Level]) -> None:
    """Leave the convolution the maps that stay."""
    name, kernel = conv.name or conv.op_type, np.concatenate([level.kernel for level in kept], axis=1)
    conv.replace_input_with(1, graph.add_constant(f"{name}.weight.kept", kernel))
    if len(kept) == 1:
        conv.replace_input_with(0, kept[0].value)
        return
    batch, _, height, width = known_shape(kept[0].value)
    build = Builder(graph, name, conv)
    values = [level.value for level in kept]
    joined = build.add("Concat", values, "kept", [batch, kernel.shape[1], height, width], axis=1)
    graph.model.graph.insert_before(conv, build.nodes)
    conv.replace_input_with(0, joined)


def _add_level(build: Builder, conv: ir.Node, level: _Level, name: str) -> ir.Value:
    """What an enlarged map adds to the convolution's result: ``(B, H, W, N)``."""
    assert level.matrices is not None
    assert level.small is not None
    assert level.bias is not None
    (batch, _, height, width), (count, channels, high, wide) = known_shape(level.small), level.kernel.shape
    _, _, rows, columns = known_shape(conv.outputs[0])
    by_row, by_column = (shift_matrix(conv, axis, matrix) for axis, matrix in enumerate(level.matrices))
    weight = level.kernel.transpose(2, 3, 0, 1).reshape(-1, channels, 1, 1)  # to channels (k, l, N)
    inputs = [
        level.small,
        build.constant(f"{name}.weight", np.ascontiguousarray(weight)),
        build.constant(f"{name}.bias", np.ascontiguousarray(level.bias.transpose(1, 2, 0).ravel())),
    ]
    line = wide * count
    value = build.add("Conv", inputs, name, [batch, high * line, height, width])
    value = build.add("Transpose", [value], f"{name}.turned", [batch, height, width, high * line], perm=_LAST)
    if high > 1:  # places of the kernel's rows in front of those of the map
        value = build.reshape(value, [batch, height * width, high, line], f"{name}.places")
        value = build.add("Transpose", [value], f"{name}.rows", [batch, high, height * width, line], perm=(0, 2, 1, 3))
    value = build.reshape(value, [batch, high * height, width * line], f"{name}.rows.before")
    matrix = build.constant(f"{name}.rows.weight", np.concatenate(by_row, axis=1))
    value = build.add("MatMul", [matrix, value], f"{name}.rows.resized", [batch, rows, width * line])
    value = build.reshape(value, [batch, rows, width * wide, count], f"{name}.columns.before")
    matrix = build.constant(f"{name}.columns.weight", np.stack(by_column, axis=2).reshape(columns, -1))
    return build.add("MatMul", [matrix, value], f"{name}.columns.resized", [batch, rows, columns, count])
