"""Where the images of a batch lie in every tensor of a graph, and what holds their number and has to be restated."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.graph.builder import Builder
from edgevit.graph.graph import Graph, constant_of, operand, static_shape
from edgevit.graph.patterns.pieces import MismatchError


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
        new: Images a call that are wanted; ``None`` for any number.
    """

    def __init__(self, graph: Graph, old: int, new: int | None) -> None:
        self.graph, self.old, self.new = graph, old, new
        self.places: dict[ir.Value, Place] = {}
        self.changes: list[Callable[[], None]] = []
        self.apart: dict[ir.Node, Place] = {}

    def images(self, node: ir.Node) -> list[tuple[int, Place]]:
        """Inputs of a node that hold images, with their places."""
        return [(n, self.places[v]) for n, v in enumerate(node.inputs) if v is not None and v in self.places]

    def restate(self, node: ir.Node, number: int, numbers: npt.NDArray[Any]) -> None:
        """A constant input to be replaced."""

        def change() -> None:
            node.replace_input_with(number, self.graph.add_constant(name, numbers))

        name = f"{node.name}/batch.{len(self.changes)}"
        self.changes.append(change)

    def restate_shape(self, node: ir.Node, place: Place) -> None:
        """The target of a Reshape or Expand, its second input."""
        shape = list(require_shape(node.outputs[0], node))
        if self.new is not None:
            shape[place.axis] = shape[place.axis] // self.old * self.new
        else:
            shape[place.axis] = -1 if node.op_type == "Reshape" else 1  # an Expand to 1 leaves the length
        self.restate(node, 1, np.asarray(shape, np.int64))

    def restate_sizes(self, node: ir.Node, place: Place, sizes: npt.NDArray[np.int64]) -> None:
        """Those that a Resize gives a tensor, its fourth input."""
        if self.new is not None:
            sizes = sizes.copy()
            sizes[place.axis] = sizes[place.axis] // self.old * self.new
            self.restate(node, 3, sizes)
            return
        self.changes.append(functools.partial(self._open_sizes, node, place.axis, sizes))

    def restate_constants(self, node: ir.Node, place: Place, rank: int) -> None:
        """Constants that are broadcast against images, of an axis of the result: repeated once an image, or not.

        Args:
            node: Reads them.
            place: In the result.
            rank: The result's.
        """
        for number, axis, first in self._find_repeated(node, place, rank):
            outer, inner = first.shape[axis], first.shape[axis + 2]
            if self.new is None and outer * inner > 1:
                if outer > 1 or place.axis:
                    raise MismatchError(node, "it has constants on both sides of the images of a batch")
                self.apart[node] = place
                self.restate(node, number, first.reshape(*first.shape[:axis], 1, *first.shape[axis + 2 :]))
                continue
            again = np.repeat(first, self.new or 1, axis + 1)
            self.restate(node, number, again.reshape(*first.shape[:axis], -1, *first.shape[axis + 3 :]))

    def repeat_constants(self, node: ir.Node, place: Place, rank: int) -> None:
        """Constants that lie beside images and are not broadcast: one for every image, whatever their number."""
        for number, axis, first in self._find_repeated(node, place, rank):
            self._repeat_one(node, number, axis, first)

    def repeat_constant(self, node: ir.Node, number: int, axis: int) -> None:
        """One that holds the images along an axis of its own."""
        numbers = constant_of(node.inputs[number])
        if numbers is None:
            raise MismatchError(node, "it mixes the images of a batch")
        self._repeat_one(node, number, axis, self._take_first(node, numbers, Place(axis, 1)))

    def _repeat_one(self, node: ir.Node, number: int, axis: int, first: npt.NDArray[Any]) -> None:
        if self.new is not None:
            again = np.repeat(first, self.new, axis + 1)
            self.restate(node, number, again.reshape(*first.shape[:axis], -1, *first.shape[axis + 3 :]))
        else:
            self.changes.append(functools.partial(self._repeat, node, number, axis + 1, first))

    def _find_repeated(self, node: ir.Node, place: Place, rank: int) -> list[tuple[int, int, npt.NDArray[Any]]]:
        """Constants along the axis of the images: input, axis there, and one image's, ``(…, outer, 1, inner, …)``."""
        found = []
        for number, value in enumerate(node.inputs):
            numbers = constant_of(value)
            axis = place.axis - rank + (numbers.ndim if numbers is not None else 0)
            if numbers is not None and axis >= 0 and numbers.shape[axis] != 1:
                found.append((number, axis, self._take_first(node, numbers, Place(axis, place.inner))))
        return found

    def _take_first(self, node: ir.Node, numbers: npt.NDArray[Any], place: Place) -> npt.NDArray[Any]:
        axis = place.axis
        apart = numbers.reshape(*numbers.shape[:axis], -1, self.old, place.inner, *numbers.shape[axis + 1 :])
        first: npt.NDArray[Any] = apart.take([0], axis + 1)
        if not np.array_equal(np.broadcast_to(first, apart.shape), apart, equal_nan=apart.dtype.kind == "f"):
            raise MismatchError(node, "it has a constant of its own for every image of the batch")
        return first

    def apply(self) -> None:
        """Put in what is restated."""
        for change in self.changes:
            change()
        for node, place in self.apart.items():
            self._set_apart(node, place)

    def _repeat(self, node: ir.Node, number: int, axis: int, one: npt.NDArray[Any]) -> None:
        """An Expand of a constant, ``(…, outer, 1, inner, …)``, to as many images as there are."""
        build = Builder(self.graph, f"{node.name}/batch.{number}", node)
        before, behind = (np.asarray(shape, np.int64) for shape in (one.shape[:axis], one.shape[axis + 1 :]))
        parts = [build.constant("before", before), self._count_images(build), build.constant("behind", behind)]
        target = build.add("Concat", parts, "shape", [one.ndim], axis=0)
        again = build.add("Expand", [build.constant("one", one), target], "again", None)
        merged = build.constant("merged.shape", np.asarray([*before[:-1], -1, *behind[1:]], np.int64))
        result = build.add("Reshape", [again, merged], "merged", None)
        self.graph.model.graph.insert_before(node, build.nodes)
        node.replace_input_with(number, result)

    def gather_apart(self, node: ir.Node, place: Place, entries: npt.NDArray[np.int64]) -> None:
        """Let a Gather along the images' axis take the same entries of each image, in its own order.

        Args:
            node: Has one axis of indices.
            place: In its input.
            entries: ``(n, m)``, of which the images stand between the ``n`` and the ``m``.
        """

        def change() -> None:
            axis = place.axis
            build = Builder(self.graph, f"{node.name}/batch", node)
            shape = list(require_shape(node.inputs[0], node))
            apart = build.constant("apart.shape", np.asarray([*shape[:axis], -1, place.inner, *shape[axis + 1 :]]))
            merged = build.constant("merged.shape", np.asarray([*shape[:axis], -1, *shape[axis + 1 :]]))
            value = build.add("Reshape", [operand(node), apart], "apart", None)
            value = build.add("Gather", [value, build.constant("entries", entries)], "entries", None, axis=axis + 1)
            if len(entries) > 1:
                order = list(range(len(shape) + 2))
                order[axis : axis + 2] = [axis + 1, axis]
                value = build.add("Transpose", [value], "turned", None, perm=order)
            value = build.add("Reshape", [value, merged], "merged", node.outputs[0].shape)
            self.places[value] = self.places[node.outputs[0]]
            build.insert(node, node.outputs[0], value)
            self.graph.model.graph.remove(node, safe=True)

        self.changes.append(change)

    def scatter_apart(self, node: ir.Node, data: npt.NDArray[Any], indices: npt.NDArray[np.int64]) -> None:
        """State a ScatterND into copies of a mask as a Gather of what it writes, and a choice.

        Args:
            node: Writes images into :attr:`old` copies of the mask.
            data: The mask, bool, of one image.
            indices: Where an image's entries go, without the image's number.
        """

        def change() -> None:
            build = Builder(self.graph, f"{node.name}/batch", node)
            source = np.full(data.shape[: indices.shape[-1]], -1, np.int64)
            source[tuple(np.moveaxis(indices, -1, 0))] = np.arange(indices[..., 0].size).reshape(indices.shape[:-1])
            whole = source.reshape(*source.shape, *[1] * (data.ndim - source.ndim))
            behind = data.shape[source.ndim :]
            flat = build.constant("flat.shape", np.asarray([-1, indices[..., 0].size, *behind], np.int64))
            value = build.add("Reshape", [operand(node, 2), flat], "flat", None)
            value = build.add("Gather", [value, build.constant("source", source.clip(min=0))], "written", None, axis=1)
            value = build.add("And", [value, build.constant("is_written", whole[None] >= 0)], "new", None)
            left = build.constant("left", (data & (whole < 0))[None])
            value = build.add("Or", [value, left], "all", node.outputs[0].shape)  # ONNX Runtime's Where knows no bool
            self.places[value] = self.places[node.outputs[0]]
            build.insert(node, node.outputs[0], value)
            self.graph.model.graph.remove(node, safe=True)

        self.changes.append(change)

    def _open_sizes(self, node: ir.Node, axis: int, sizes: npt.NDArray[np.int64]) -> None:
        """All sizes of a Resize, its input's along the images' axis: TensorRT's parser takes no fewer of them."""
        build = Builder(self.graph, f"{node.name}/batch", node)
        same = self._read_length(build, operand(node), axis)
        parts = [build.constant("before", sizes[:axis]), same, build.constant("behind", sizes[axis + 1 :])]
        node.replace_input_with(3, build.add("Concat", parts, "sizes", [len(sizes)], axis=0))
        self.graph.model.graph.insert_before(node, build.nodes)

    def _count_images(self, build: Builder) -> ir.Value:
        return self._read_length(build, self.graph.model.graph.inputs[0], 0)

    @staticmethod
    def _read_length(build: Builder, value: ir.Value, axis: int) -> ir.Value:
        """How long an axis is at run time, ``(1,) int64``."""
        length = build.add("Shape", [value], "length", [1], start=axis, end=axis + 1)
        length.type = ir.TensorType(ir.DataType.INT64)
        return length

    def _set_apart(self, node: ir.Node, place: Place) -> None:
        """Give the images of a node an axis of their own, in front of what each has there, and take it away again."""
        build = Builder(self.graph, f"{node.name}/batch.apart", node)
        for number, own in self.images(node):
            value = operand(node, number)
            shape = list(require_shape(value, node))
            shape[own.axis : own.axis + 1] = [-1, own.inner]
            target = build.constant(f"shape.{number}", np.asarray(shape, np.int64))
            node.replace_input_with(number, build.add("Reshape", [value, target], f"images.{number}", None))
        self.graph.model.graph.insert_before(node, build.nodes)
        result = node.outputs[0]
        shape = list(require_shape(result, node))
        shape[place.axis] = -1
        build = Builder(self.graph, f"{node.name}/batch.merged", node)
        merged = build.add("Reshape", [result, build.constant("shape", np.asarray(shape, np.int64))], "images", shape)
        merged.shape, result.shape = result.shape, None
        self.places[merged] = place
        for use in list(result.uses()):
            if use.node is not build.nodes[0]:
                use.node.replace_input_with(use.idx, merged)
        self.graph.model.graph.insert_after(node, build.nodes)


def require_shape(value: ir.Value | None, node: ir.Node | None) -> tuple[int, ...]:
    """The static shape of a value, or a MismatchError that names the node."""
    shape = static_shape(value)
    if shape is None:
        raise MismatchError(node, "its shape is not static")
    return shape
