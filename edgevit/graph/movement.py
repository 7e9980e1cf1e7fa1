"""Where the numbers of a tensor come from, through operators that only move, scale or shift them.

Exporters write one movement in many ways: a permute as five operators, a roll as slices and a concatenation, a window
partition as reshapes of rank six. Followed to the value that was really computed, they are all one table: which of its
numbers comes to each place. A pattern that compares tables needs no list of spellings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgevit.graph.graph import constant_of, operand, static_shape
from edgevit.graph.moves import RESHAPES

if TYPE_CHECKING:
    import onnx_ir as ir

Index = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]
NOWHERE = -1


@dataclass(frozen=True)
class View:
    """``value.flat[i] = source.flat[index.flat[i]] · scale + offset``.

    Attributes:
        source: The value that was computed; ``None`` where all is constant.
        index: Of the traced value's shape; ``NOWHERE`` where the number is only a constant.
        scale: One factor, or an array of ``index``'s shape.
        offset: Of ``index``'s shape; ``None`` for zeros.
        nodes: What was passed on the way, from the source on.
    """

    source: ir.Value | None
    index: Index
    scale: float | Numbers = 1.0
    offset: Numbers | None = None
    nodes: tuple[ir.Node, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The traced value's."""
        return self.index.shape

    @property
    def moves_alone(self) -> bool:
        """Whether nothing is scaled or shifted; padding with zeros counts as movement."""
        return isinstance(self.scale, float) and self.scale == 1.0 and self.offset is None

    @property
    def is_flat(self) -> bool:
        """Whether the numbers keep their order: nothing but reshapes."""
        count = self.index.size
        if self.source is None or (shape := static_shape(self.source)) is None or int(np.prod(shape)) != count:
            return False
        return bool((self.index.reshape(-1) == np.arange(count)).all())

    def move(self, how: Callable[[npt.NDArray[Any]], npt.NDArray[Any]], *nodes: ir.Node) -> View:
        """The view of a value that holds these numbers at other places, by way of ``nodes``."""
        scale = self.scale if isinstance(self.scale, float) else how(self.scale)
        offset = None if self.offset is None else how(self.offset)
        return View(self.source, how(self.index), scale, offset, (*self.nodes, *nodes))


class _Memo(dict["ir.Value", View]):
    """Views of values that were traced already.

    Args:
        known: The first of them.
        arithmetic: Whether constants that are added or multiplied belong to the way.
        signs: Whether changes of sign do.
    """

    def __init__(
        self, known: Mapping[ir.Value, View] | None = None, *, arithmetic: bool = True, signs: bool = False
    ) -> None:
        super().__init__(known or {})
        self.arithmetic, self.signs = arithmetic, signs


def trace(value: ir.Value, *, arithmetic: bool = True) -> View:
    """Follow a value of static shape back to what computed it.

    Args:
        value: Of a graph whose constants are initializers.
        arithmetic: Go on through constants that are added or multiplied; else only through movements.

    Raises:
        ValueError: The shape of a value on the way is not static.
    """
    return _trace(value, _Memo(arithmetic=arithmetic))


def trace_to(value: ir.Value, source: ir.Value) -> View:
    """:func:`trace`, through changes of sign too, and no further than to ``source``."""
    return _trace(value, _Memo({source: identity(source)}, signs=True))


def identity(value: ir.Value) -> View:
    """The view of a value as it is."""
    shape = static_shape(value)
    if shape is None:
        raise ValueError(f"the shape of {value.name} is not static")
    return View(value, np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape))


def strip_reshapes(value: ir.Value) -> ir.Value:
    """The value that holds the same numbers in the same order, as far back as single operators keep both."""
    while True:
        node = value.producer()
        source = node.inputs[0] if node is not None and node.inputs else None
        if node is None or source is None or source.const_value is not None or static_shape(source) is None:
            return value
        if len([v for v in node.inputs if v is not None and v.const_value is None]) != 1 or len(node.outputs) != 1:
            return value
        view = step_view(node, {source: identity(source)})
        if view is None or not (view.moves_alone and view.is_flat):
            return value
        value = source


def step_view(node: ir.Node, known: Mapping[ir.Value, View]) -> View | None:
    """What a single operator does to the views of its inputs; ``None`` where it is no movement."""
    return _step(node, node.outputs[0], _Memo(known))


def _step(node: ir.Node, value: ir.Value, memo: _Memo) -> View | None:
    step = _STEPS.get(node.op_type) if node.domain == "" else None
    return step(node, value, memo) if step is not None else None


def _trace(value: ir.Value, memo: _Memo) -> View:
    if value in memo:
        return memo[value]
    numbers = constant_of(value)
    if numbers is not None:
        view = View(None, np.full(numbers.shape, NOWHERE, np.int64), 1.0, numbers.astype(np.float64))
    else:
        node = value.producer()
        view = (_step(node, value, memo) if node is not None else None) or identity(value)
    memo[value] = view
    return view


Step = Callable[["ir.Node", "ir.Value", _Memo], "View | None"]


def _source(node: ir.Node, memo: _Memo, place: int = 0) -> View:
    return _trace(operand(node, place), memo)


def _constant_ints(node: ir.Node, place: int) -> list[int] | None:
    numbers = constant_of(node.inputs[place]) if place < len(node.inputs) else None
    return [int(n) for n in numbers.reshape(-1)] if numbers is not None else None


def _reshape(node: ir.Node, value: ir.Value, memo: _Memo) -> View | None:
    shape = static_shape(value)
    return None if shape is None else _source(node, memo).move(lambda x: x.reshape(shape), node)


def _transpose(node: ir.Node, value: ir.Value, memo: _Memo) -> View | None:
    perm = node.attributes.get_ints("perm")
    return _source(node, memo).move(lambda x: x.transpose(perm), node)


def _slice(node: ir.Node, value: ir.Value, memo: _Memo) -> View | None:
    starts, ends = _constant_ints(node, 1), _constant_ints(node, 2)
    if starts is None or ends is None:
        return None
    axes = _constant_ints(node, 3) or list(range(len(starts)))
    steps = _constant_ints(node, 4) or [1] * len(starts)
    view = _source(node, memo)
    cut = [slice(None)] * len(view.shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = view.shape[axis]
        # ONNX clamps; an end far below zero with a negative step means "to the beginning", which Python spells None.
        cut[axis] = slice(start, None if step < 0 and end < -size else end, step)
    return view.move(lambda x: x[tuple(cut)], node)


def _gather(node: ir.Node, value: ir.Value, memo: _Memo) -> View | None:
    rows = constant_of(node.inputs[1])
    if rows is None:
        return None
    axis = node.attributes.get_int("axis", 0)
    return _source(node, memo).move(lambda x: np.take(x, rows.astype(np.int64), axis=axis), node)


def _split(node: ir.Node, value: ir.Value, memo: _Memo) -> View | None:
    axis, shapes = node.attributes.get_int("axis", 0), [static_shape(v) for v in node.outputs]
    view = _source(node, memo)
    sizes = [shape[axis] for shape in shapes if shape is not None]
    if len(sizes) != len(shapes):
        return None
    place = value.index()
    assert place is not None
    start = sum(sizes[:place])
    return view.move(lambda x: np.take(x, np.arange(start, start + sizes[place]), axis=axis), node)


def _expand(node: ir.Node, value: ir.Value, memo: _Memo) -> View | None:
    shape = static_shape(value)
    return None if shape is None else _source(node, memo).move(lambda x: np.broadcast_to(x, shape), node)


def _tile(node: ir.Node, value: ir.Value, memo: _Memo) -> View | None:
    repeats = _constant_ints(node, 1)
    return None if repeats is None else _source(node, memo).move(lambda x: np.tile(x, repeats), node)


def _pad(node: ir.Node, value: ir.Value, memo: _Memo) -> View | None:
    pads, fill = _constant_ints(node, 1), constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    if pads is None or node.attributes.get_string("mode", "constant") != "constant" or min(pads, default=0) < 0:
        return None
    if fill is not None and float(fill.reshape(-1)[0]) != 0.0:
        return None
    view = _source(node, memo)
    axes = _constant_ints(node, 3) or list(range(len(view.shape)))
    width = [(0, 0)] * len(view.shape)
    for at, axis in enumerate(axes):
        width[axis] = (pads[at], pads[at + len(axes)])
    index = np.pad(view.index, width, constant_values=NOWHERE)
    scale = view.scale if isinstance(view.scale, float) else np.pad(view.scale, width)
    offset = None if view.offset is None else np.pad(view.offset, width)
    return View(view.source, index, scale, offset, (*view.nodes, node))


def _concat(node: ir.Node, value: ir.Value, memo: _Memo) -> View | None:
    views = [_source(node, memo, place) for place in range(len(node.inputs))]
    sources = {view.source for view in views if view.source is not None}
    if len(sources) > 1:
        return None
    axis = node.attributes.get_int("axis", 0)
    index = np.concatenate([view.index for view in views], axis)
    scales = [view.scale for view in views if view.source is not None]
    scale: float | Numbers = 1.0
    if any(not isinstance(s, float) or s != scales[0] for s in scales):
        scale = np.concatenate([np.broadcast_to(np.asarray(v.scale, np.float64), v.shape) for v in views], axis)
    elif scales:
        scale = scales[0]
    offset = None
    if any(view.offset is not None for view in views):
        zeros = [np.zeros(v.shape) if v.offset is None else v.offset for v in views]
        offset = np.concatenate(zeros, axis)
    nodes = tuple(dict.fromkeys(n for view in views for n in view.nodes))
    return View(next(iter(sources), None), index, scale, offset, (*nodes, node))


def _arithmetic(node: ir.Node, value: ir.Value, memo: _Memo) -> View | None:
    """Add, Sub, Mul and Div by a constant."""
    place = 0 if constant_of(node.inputs[0]) is None else 1
    constant, shape = constant_of(node.inputs[1 - place]), static_shape(value)
    if not memo.arithmetic or constant is None or constant_of(node.inputs[place]) is not None:
        return None
    if shape is None or constant.dtype.kind != "f" or (place == 1 and node.op_type == "Div"):
        return None  # a constant over x is no scaling of x
    view = _source(node, memo, place)
    if view.shape != shape:
        view = view.move(lambda x: np.broadcast_to(x, shape), node)
    factor: float | Numbers = 1.0
    shift: Numbers | None = None
    c = constant.astype(np.float64)
    if node.op_type in ("Mul", "Div"):
        with np.errstate(divide="ignore", invalid="ignore"):
            c = c if node.op_type == "Mul" else 1.0 / c
        factor = float(c.reshape(-1)[0]) if c.size == 1 else np.broadcast_to(c, shape)
    else:  # x + c, x − c or c − x
        factor = -1.0 if node.op_type == "Sub" and place == 1 else 1.0
        shift = np.broadcast_to(-c if node.op_type == "Sub" and place == 0 else c, shape)
    offset = None if view.offset is None else view.offset * factor
    if shift is not None:
        offset = shift if offset is None else offset + shift
    return View(view.source, view.index, view.scale * factor, offset, (*view.nodes, node))


def _negate(node: ir.Node, value: ir.Value, memo: _Memo) -> View | None:
    if not memo.signs:
        return None
    view = _source(node, memo)
    offset = None if view.offset is None else -view.offset
    return View(view.source, view.index, -view.scale, offset, (*view.nodes, node))


def trains(node: ir.Node) -> bool:
    """Whether a Dropout draws numbers, or may because what says so is computed."""
    asked = node.inputs[2] if len(node.inputs) > 2 else None
    if asked is None:
        return False
    training, ratio = constant_of(asked), constant_of(node.inputs[1])
    silent = ratio is not None and not ratio.any()
    return not silent and (training is None or bool(training.any()))


def _pass(node: ir.Node, value: ir.Value, memo: _Memo) -> View | None:
    source = node.inputs[0]
    if node.op_type == "Dropout" and (value is not node.outputs[0] or trains(node)):
        return None
    if source is None or (node.op_type == "Cast" and source.dtype != value.dtype):
        return None
    return _source(node, memo).move(lambda x: x, node)


_STEPS: dict[str, Step] = {
    **dict.fromkeys(("Identity", "Dropout", "Cast"), _pass),
    **dict.fromkeys(RESHAPES, _reshape),
    "Transpose": _transpose,
    "Slice": _slice,
    "Gather": _gather,
    "Split": _split,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "Concat": _concat,
    "Neg": _negate,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
}
