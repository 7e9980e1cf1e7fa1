"""How each operator treats the images of a batch: where they lie in its result, and which constants hold their number.

A step of :data:`STEPS` takes a node, its inputs that hold images and the walk, and gives the place of the images in the
result. One that would mix images raises :class:`~edgevit.graph.patterns.pieces.MismatchError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.graph.graph import Graph, constant_of, reduced_axes, static_shape
from edgevit.graph.moves import RESHAPES
from edgevit.graph.patterns.pieces import MismatchError

_SAME = frozenset(
    {
        "Abs", "Cast", "Ceil", "Clip", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
        "Identity", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign",
        "Softplus", "Sqrt", "Tanh",
    }
)  # fmt: skip
_BROADCAST = frozenset(
    {"Add", "And", "Div", "Equal", "Greater", "Less", "Max", "Min", "Mul", "Or", "PRelu", "Pow", "Sub", "Where"}
)
_FIRST = frozenset({"AveragePool", "Conv", "ConvTranspose", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
_OVER_AXIS = frozenset({"LogSoftmax", "Softmax"})


@dataclass(frozen=True)
class Place:
    """Where a tensor's images lie: an axis of ``outer · batch · inner`` entries.

    Attributes:
        axis: The axis, from 0.
        inner: Entries of the axis between one image and the next: windows or heads of an image, behind it.
    """

    axis: int
    inner: int


class Walk:
    """Places so far, and what will be restated.

    Args:
        graph: With static shapes for ``old`` images; nothing is changed before :meth:`apply`.
        old: Images a call.
        new: Images a call that are wanted.
    """

    def __init__(self, graph: Graph, old: int, new: int) -> None:
        self.graph, self.old, self.new = graph, old, new
        self.places: dict[ir.Value, Place] = {}
        self.edits: list[tuple[ir.Node, int, npt.NDArray[Any]]] = []

    def images(self, node: ir.Node) -> list[tuple[int, Place]]:
        """Inputs of a node that hold images, with their places."""
        return [(n, self.places[v]) for n, v in enumerate(node.inputs) if v is not None and v in self.places]

    def restate(self, node: ir.Node, number: int, numbers: npt.NDArray[Any]) -> None:
        """A constant input to be replaced."""
        self.edits.append((node, number, numbers))

    def restate_shape(self, node: ir.Node, place: Place) -> None:
        """The target of a Reshape or Expand, its second input."""
        shape = list(require_shape(node.outputs[0], node))
        shape[place.axis] = shape[place.axis] // self.old * self.new
        self.restate(node, 1, np.asarray(shape, np.int64))

    def restate_constants(self, node: ir.Node, place: Place, rank: int) -> None:
        """Constants that are broadcast against images, of an axis of the result: repeated once an image, or not.

        Args:
            node: Reads them.
            place: In the result.
            rank: The result's.
        """
        for number, value in enumerate(node.inputs):
            numbers = constant_of(value)
            axis = place.axis - rank + (numbers.ndim if numbers is not None else 0)
            if numbers is None or axis < 0 or numbers.shape[axis] == 1:
                continue
            apart = numbers.reshape(*numbers.shape[:axis], -1, self.old, place.inner, *numbers.shape[axis + 1 :])
            first = apart.take([0], axis + 1)
            if not np.array_equal(np.broadcast_to(first, apart.shape), apart, equal_nan=apart.dtype.kind == "f"):
                raise MismatchError(node, "it has a constant of its own for every image of the batch")
            again = np.repeat(first, self.new, axis + 1)
            self.restate(node, number, again.reshape(*numbers.shape[:axis], -1, *numbers.shape[axis + 1 :]))

    def apply(self) -> None:
        """Put the restated constants in."""
        for count, (node, number, numbers) in enumerate(self.edits):
            node.replace_input_with(number, self.graph.add_constant(f"{node.name}/batch.{count}", numbers))


_Step = Callable[[ir.Node, Sequence[tuple[int, Place]], Walk], Place]


def require_shape(value: ir.Value | None, node: ir.Node | None) -> tuple[int, ...]:
    """The static shape of a value, or a MismatchError that names the node."""
    shape = static_shape(value)
    if shape is None:
        raise MismatchError(node, "its shape is not static")
    return shape


def _only(node: ir.Node, found: Sequence[tuple[int, Place]]) -> tuple[tuple[int, ...], Place]:
    """Shape and place of a node's first input, the only one that holds images."""
    if [number for number, _ in found] != [0]:
        raise MismatchError(node, "it reads images where it is expected to read constants")
    return require_shape(node.inputs[0], node), found[0][1]


def _check(good: bool, node: ir.Node, place: Place) -> Place:
    if not good:
        raise MismatchError(node, "it mixes the images of a batch")
    return place


def _axis(node: ir.Node, default: int, rank: int) -> int:
    return node.attributes.get_int("axis", default) % rank


def _keep(is_apart: Callable[[ir.Node, Place, int], bool]) -> _Step:
    """The step of an operator that leaves the images where they are, and works on each where ``is_apart`` says so.

    Args:
        is_apart: Takes the node, the place of the images in its input and that input's rank.
    """

    def step(node: ir.Node, found: Sequence[tuple[int, Place]], walk: Walk) -> Place:
        shape, place = _only(node, found)
        return _check(is_apart(node, place, len(shape)), node, place)

    return step


def _broadcast(node: ir.Node, found: Sequence[tuple[int, Place]], walk: Walk) -> Place:
    rank = len(require_shape(node.outputs[0], node))
    places = set()
    for number, place in found:
        places.add(replace(place, axis=place.axis + rank - len(require_shape(node.inputs[number], node))))
    place = next(iter(places))
    _check(len(places) == 1, node, place)
    _check_others(node, place, rank, walk)
    walk.restate_constants(node, place, rank)
    return place


def _check_others(node: ir.Node, place: Place, rank: int, walk: Walk) -> None:
    """What is computed without an image, such as random numbers, must not fill the axis of the images."""
    for value in node.inputs:
        if value is None or value in walk.places or value.const_value is not None:
            continue
        shape = require_shape(value, node)
        axis = place.axis - rank + len(shape)
        _check(axis < 0 or shape[axis] == 1, node, place)


def _matmul(node: ir.Node, found: Sequence[tuple[int, Place]], walk: Walk) -> Place:
    rank = len(require_shape(node.outputs[0], node))
    places = {(n, place.axis - len(require_shape(node.inputs[n], node)), place.inner) for n, place in found}
    place = Place(rank + next(iter(places))[1], next(iter(places))[2])
    both = len(places) == 2
    for number, from_end, inner in places:
        rows = from_end == -2 and number == 0 and not both
        _check((from_end <= -3 or rows) and (rank + from_end, inner) == (place.axis, place.inner), node, place)
    _check_others(node, place, rank, walk)
    if place.axis < rank - 2:
        walk.restate_constants(node, place, rank)
    return place


def _gemm(node: ir.Node, found: Sequence[tuple[int, Place]], walk: Walk) -> Place:
    shape, place = _only(node, found)
    _check(node.attributes.get_int("transA", 0) == 0 and place.axis == 0, node, place)
    bias = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None and bias.ndim == len(shape) and bias.shape[0] > 1:
        raise MismatchError(node, "its bias differs from row to row")
    return place


def _transpose(node: ir.Node, found: Sequence[tuple[int, Place]], walk: Walk) -> Place:
    shape, place = _only(node, found)
    perm = node.attributes.get_ints("perm", range(len(shape))[::-1])
    return replace(place, axis=list(perm).index(place.axis))


def _reshape(node: ir.Node, found: Sequence[tuple[int, Place]], walk: Walk) -> Place:
    shape, place = _only(node, found)
    if node.op_type == "Squeeze" and len(node.inputs) < 2:
        raise MismatchError(node, "it removes every axis of one, and of one image the batch is one too")
    stride = place.inner * int(np.prod(shape[place.axis + 1 :]))
    made = require_shape(node.outputs[0], node)
    for axis, size in enumerate(made):
        behind = int(np.prod(made[axis + 1 :]))
        if behind and stride % behind == 0 and size % (walk.old * (stride // behind)) == 0:
            result = Place(axis, stride // behind)
            if node.op_type == "Reshape":
                walk.restate_shape(node, result)
            return result
    raise MismatchError(node, "it spreads the images of a batch over several axes")


def _expand(node: ir.Node, found: Sequence[tuple[int, Place]], walk: Walk) -> Place:
    shape, place = _only(node, found)
    rank = len(require_shape(node.outputs[0], node))
    result = replace(place, axis=place.axis + rank - len(shape))
    walk.restate_shape(node, result)
    return result


def _slice(node: ir.Node, found: Sequence[tuple[int, Place]], walk: Walk) -> Place:
    """Also of Pad and Tile: the axis of the images keeps its length, so that nothing is cut from it or put to it."""
    shape, place = _only(node, found)
    signed = {"Slice": 4, "Pad": 1}.get(node.op_type, 0)  # a step or a pad below zero keeps the length and moves
    numbers = constant_of(node.inputs[signed]) if 0 < signed < len(node.inputs) else None
    moved = numbers is not None and bool((numbers < 0).any())
    return _check(require_shape(node.outputs[0], node)[place.axis] == shape[place.axis] and not moved, node, place)


def _gather(node: ir.Node, found: Sequence[tuple[int, Place]], walk: Walk) -> Place:
    shape, place = _only(node, found)
    axis = _axis(node, 0, len(shape))
    if axis == place.axis:
        return _gather_images(node, shape[axis], place, walk)
    more = len(require_shape(node.inputs[1], node)) - 1
    return replace(place, axis=place.axis + more) if place.axis > axis else place


def _gather_images(node: ir.Node, size: int, place: Place, walk: Walk) -> Place:
    """Entries of the images' own axis, as dynamo writes strides: every image reads its own, and all read the same ones.

    An entry's number is ``(outer · batch + image) · inner + entry``.
    """
    rows = constant_of(node.inputs[1])
    if rows is None:
        raise MismatchError(node, "which entries of a batch it takes is computed")
    rest, entry = np.divmod(rows % size, place.inner)
    outer, image = np.divmod(rest, walk.old)
    for axis, length in enumerate(rows.shape):
        numbers = np.arange(walk.old).reshape(-1, *[1] * (rows.ndim - axis))
        apart = (*rows.shape[:axis], walk.old, -1, *rows.shape[axis + 1 :])
        if length % walk.old or not bool((image.reshape(apart) == numbers).all()):
            continue
        outers, entries = outer.reshape(apart), entry.reshape(apart)
        first = [table.take([0], axis) for table in (outers, entries)]
        if all(bool((table == one).all()) for table, one in zip((outers, entries), first, strict=True)):
            numbers = np.arange(walk.new).reshape(-1, *[1] * (rows.ndim - axis))
            again = (first[0] * walk.new + numbers) * place.inner + first[1]
            walk.restate(node, 1, again.reshape(*rows.shape[:axis], -1, *rows.shape[axis + 1 :]))
            return Place(place.axis + axis, length // walk.old)
    raise MismatchError(node, "it mixes the images of a batch")


def _concat(node: ir.Node, found: Sequence[tuple[int, Place]], walk: Walk) -> Place:
    rank, place = len(require_shape(node.outputs[0], node)), found[0][1]
    good = all(other == place for _, other in found)
    _check(good and _axis(node, 0, rank) != place.axis, node, place)
    _check_others(node, place, rank, walk)
    walk.restate_constants(node, place, rank)
    return place


def _reduce(node: ir.Node, found: Sequence[tuple[int, Place]], walk: Walk) -> Place:
    shape, place = _only(node, found)
    over = {axis % len(shape) for axis in reduced_axes(node)}
    _check(bool(over) and place.axis not in over, node, place)
    kept = node.attributes.get_int("keepdims", 1) == 1
    return place if kept else replace(place, axis=place.axis - sum(axis < place.axis for axis in over))


STEPS: dict[str, _Step] = {
    **dict.fromkeys(_SAME, _keep(lambda node, place, rank: True)),
    **dict.fromkeys(_BROADCAST, _broadcast),
    **dict.fromkeys(_FIRST, _keep(lambda node, place, rank: place == Place(0, 1))),
    **dict.fromkeys(_OVER_AXIS, _keep(lambda node, place, rank: place.axis != _axis(node, -1, rank))),
    **dict.fromkeys(RESHAPES, _reshape),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL2"), _reduce),
    "BatchNormalization": _keep(lambda node, place, rank: place.axis != 1),
    "Concat": _concat,
    "Expand": _expand,
    "Gather": _gather,
    "Gemm": _gemm,
    "LayerNormalization": _keep(lambda node, place, rank: place.axis < _axis(node, -1, rank)),
    "MatMul": _matmul,
    "Pad": _slice,
    "Slice": _slice,
    "Split": _keep(lambda node, place, rank: place.axis != _axis(node, 0, rank)),
    "Tile": _slice,
    "Transpose": _transpose,
}
