"""How each operator treats the images of a batch: where they lie in its result, and which constants hold their number.

A step of :data:`STEPS` takes a node, its inputs that hold images and the walk, and gives the place of the images in the
result. One that would mix images raises :class:`~edgevit.graph.patterns.pieces.MismatchError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edgevit.graph.batch_walk import Place, Walk, require_shape
from edgevit.graph.graph import constant_of, reduced_axes
from edgevit.graph.moves import RESHAPES
from edgevit.graph.patterns.pieces import MismatchError

_SAME = frozenset(
    {
        "Abs", "Cast", "Ceil", "Clip", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
        "Cos", "Identity", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Sigmoid",
        "Sign", "Sin", "Softplus", "Sqrt", "Tanh",
    }
)  # fmt: skip
_BROADCAST = frozenset(
    {"Add", "And", "Div", "Equal", "Greater", "Less", "Max", "Min", "Mul", "Or", "PRelu", "Pow", "Sub", "Where"}
)
_FIRST = frozenset(
    {
        "AveragePool", "Conv", "ConvTranspose", "GlobalAveragePool", "GlobalMaxPool", "InstanceNormalization",
        "MaxPool",
    }
)  # fmt: skip
_OVER_AXIS = frozenset({"LogSoftmax", "Softmax"})


_Step = Callable[[ir.Node, Sequence[tuple[int, Place]], Walk], Place]


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
    for axis, behind in _list_splits(rows.shape, walk.old):
        apart = (*rows.shape[:axis], -1, walk.old, behind, *rows.shape[axis + 1 :])
        ones = [1] * (rows.ndim - axis)
        if not bool((image.reshape(apart) == np.arange(walk.old).reshape(-1, *ones)).all()):
            continue
        tables = outer.reshape(apart), entry.reshape(apart)
        outers, entries = (table.take([0], axis + 1) for table in tables)
        if not all(bool((table == one).all()) for table, one in zip(tables, (outers, entries), strict=True)):
            continue
        if walk.new is not None:
            again = (outers * walk.new + np.arange(walk.new).reshape(-1, *ones)) * place.inner + entries
            walk.restate(node, 1, again.reshape(*rows.shape[:axis], -1, *rows.shape[axis + 1 :]))
        elif rows.ndim > 1 or outers.any():
            raise MismatchError(node, "which entries of a batch it takes depends on the number of images")
        else:
            walk.gather_apart(node, place, entries.reshape(-1, behind))
        return Place(place.axis + axis, behind)
    raise MismatchError(node, "it mixes the images of a batch")


def _list_splits(shape: Sequence[int], batch: int) -> Iterator[tuple[int, int]]:
    """Axes that the images may lie along, each with how many entries of an image are behind its images."""
    for axis, length in enumerate(shape):
        each, rest = divmod(length, batch)
        if not rest:
            yield from ((axis, behind) for behind in range(each, 0, -1) if each % behind == 0)


def _gather_nd(node: ir.Node, found: Sequence[tuple[int, Place]], walk: Walk) -> Place:
    """Of axes in front of the images'."""
    _, place = _only(node, found)
    indices = require_shape(node.inputs[1], node)
    _check(not node.attributes.get_int("batch_dims", 0) and place.axis >= indices[-1], node, place)
    return replace(place, axis=place.axis - indices[-1] + len(indices) - 1)


def _scatter_nd(node: ir.Node, found: Sequence[tuple[int, Place]], walk: Walk) -> Place:
    """Into the same places of every image's copy of a constant mask."""
    data, indices = constant_of(node.inputs[0]), constant_of(node.inputs[1])
    plain = node.attributes.get_string("reduction", "none") == "none" and [number for number, _ in found] == [2]
    plain = plain and data is not None and data.dtype == bool
    if data is None or indices is None or not plain or indices.ndim < 2 or len(indices) != walk.old:
        raise MismatchError(node, "it writes images elsewhere than into a constant mask")
    images = np.arange(walk.old).reshape(-1, *[1] * (indices.ndim - 2))
    same = bool((data == data[:1]).all()) and bool((indices[..., 1:] == indices[:1, ..., 1:]).all())
    place = _check(found[0][1] == Place(0, 1) and len(data) == walk.old, node, found[0][1])
    _check(same and bool((indices[..., 0] == images).all()), node, place)
    if walk.new is not None:
        raise MismatchError(node, "it writes into a constant of its own for every image")
    walk.scatter_apart(node, data[0], indices[0, ..., 1:])
    return place


def _concat(node: ir.Node, found: Sequence[tuple[int, Place]], walk: Walk) -> Place:
    rank, place = len(require_shape(node.outputs[0], node)), found[0][1]
    good = all(other == place for _, other in found)
    _check(good and _axis(node, 0, rank) != place.axis, node, place)
    _check_others(node, place, rank, walk)
    walk.repeat_constants(node, place, rank)
    return place


def _beside(node: ir.Node, found: Sequence[tuple[int, Place]], walk: Walk) -> Place:
    """Of GatherElements and GridSample: every image has its own entries or grid."""
    place, rank = found[0][1], len(require_shape(node.outputs[0], node))
    ranks = {len(require_shape(value, node)) for value in node.inputs if value is not None}
    apart = place.axis == 0 if node.op_type == "GridSample" else _axis(node, 0, rank) != place.axis
    _check(apart and ranks == {rank} and all(other == place for _, other in found), node, place)
    _check_others(node, place, rank, walk)
    walk.repeat_constants(node, place, rank)
    return place


def _einsum(node: ir.Node, found: Sequence[tuple[int, Place]], walk: Walk) -> Place:
    before, _, result = node.attributes.get_string("equation", "").replace(" ", "").partition("->")
    terms = [
        _name_axes(term, len(require_shape(value, node)))
        for term, value in zip(before.split(","), node.inputs, strict=True)
    ]
    result = _name_axes(result, len(require_shape(node.outputs[0], node)))
    letters = {terms[number][place.axis] for number, place in found}
    _check(len(letters) == 1 and letters <= set(result), node, found[0][1])
    _check(all(place.inner == 1 for _, place in found), node, found[0][1])
    letter = letters.pop()
    for number, term in enumerate(terms):
        if (
            letter in term
            and number not in dict(found)
            and require_shape(node.inputs[number], node)[term.index(letter)] > 1
        ):
            walk.repeat_constant(node, number, term.index(letter))
    return Place(result.index(letter), 1)


def _name_axes(term: str, rank: int) -> str:
    """A letter for every axis, digits from the last on for those of an ellipsis; no letters where nothing is stated."""
    more = rank - len(term.replace("...", ""))
    return term.replace("...", "".join(str(number) for number in range(more)[::-1]))


def _quantize(node: ir.Node, found: Sequence[tuple[int, Place]], walk: Walk) -> Place:
    """Scales of every channel, or one for all."""
    shape, place = _only(node, found)
    scale = require_shape(node.inputs[1], node)
    return _check(int(np.prod(scale)) == 1 or _axis(node, 1, len(shape)) != place.axis, node, place)


def _resize(node: ir.Node, found: Sequence[tuple[int, Place]], walk: Walk) -> Place:
    shape, place = _only(node, found)
    crops = node.attributes.get_string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    _check(require_shape(node.outputs[0], node)[place.axis] == shape[place.axis] and not crops, node, place)
    sizes = constant_of(node.inputs[3]) if len(node.inputs) > 3 else None
    if sizes is not None and "axes" not in node.attributes:
        walk.restate_sizes(node, place, sizes)
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
    "DequantizeLinear": _quantize,
    "Einsum": _einsum,
    "Expand": _expand,
    "Gather": _gather,
    "GatherElements": _beside,
    "GatherND": _gather_nd,
    "GridSample": _beside,
    "Gemm": _gemm,
    "LayerNormalization": _keep(lambda node, place, rank: place.axis < _axis(node, -1, rank)),
    "MatMul": _matmul,
    "Pad": _slice,
    "QuantizeLinear": _quantize,
    "Resize": _resize,
    "ScatterND": _scatter_nd,
    "Slice": _slice,
    "Split": _keep(lambda node, place, rank: place.axis != _axis(node, 0, rank)),
    "Tile": _slice,
    "TopK": _keep(lambda node, place, rank: place.axis != _axis(node, -1, rank)),
    "Transpose": _transpose,
}
