"""A graph that was exported for several images a call, brought to another number of them.

An exporter with a fixed batch writes that number into reshapes, expanded tokens and masks, multiplied with windows,
heads or tokens. Where the images of each tensor lie is followed node by node; what holds the number is then restated.
A graph that mixes images, or treats them differently, is left as it is.
"""

from __future__ import annotations

import onnx_ir as ir

from edgevit.graph.batch_steps import STEPS
from edgevit.graph.batch_walk import Place, Walk, require_shape
from edgevit.graph.graph import BATCH_AXIS, Graph
from edgevit.graph.passes.fold_static_shapes import infer_shapes
from edgevit.graph.patterns.pieces import MismatchError


def set_batch(graph: Graph, old: int, new: int) -> None:
    """Restate a graph in place for another number of images a call; exact.

    Args:
        graph: As :func:`edgevit.graph.passes.fold_static_shapes.fold_static_shapes` leaves it, of one input
            ``(old, …)`` and outputs with a row for every image. Shapes of what is computed are gone afterwards.
        old: Two or more.
        new: One or more.

    Raises:
        MismatchError: Images are mixed, or an operator is not known; the graph is as it was.
    """
    _walk(graph, old, new).apply()
    image = graph.model.graph.inputs[0]
    image.shape = ir.Shape([new, *require_shape(image, None)[1:]])
    graph.forget_shapes()


def open_batch(graph: Graph, old: int) -> None:
    """Restate a graph in place for any number of images a call; exact.

    Args:
        graph: As for :func:`set_batch`, but shapes may be missing. Its input, its outputs and what is computed of
            images have a symbolic dimension afterwards.
        old: Two or more.

    Raises:
        MismatchError: Images are mixed, or an operator is not known; the graph is as it was.
    """
    import onnx_ir.passes.common as common

    infer_shapes(graph)
    walk = _walk(graph, old, None)
    walk.apply()
    for value, place in walk.places.items():
        if value.shape is not None:
            shape: list[int | str | None] = list(require_shape(value, None))
            shape[place.axis] = BATCH_AXIS if shape[place.axis] == old else None
            value.shape = ir.Shape(shape)
    common.RemoveUnusedNodesPass()(graph.model)  # the constants that others stand for now


def _walk(graph: Graph, old: int, new: int | None) -> Walk:
    """Follow the images from the input to every output."""
    if old < 2:
        raise MismatchError(None, "nothing tells a batch of one from any other axis of one")
    walk = Walk(graph, old, new)
    walk.places[graph.model.graph.inputs[0]] = Place(0, 1)
    for node in graph.model.graph:
        found = walk.images(node)
        if not found:
            continue
        step = STEPS.get(node.op_type) if node.domain == "" else None
        if step is None:
            raise MismatchError(node, f"how {node.op_type} treats the images of a batch is not known")
        place = step(node, found, walk)
        for value in node.outputs:
            walk.places[value] = place
    for output in graph.model.graph.outputs:
        if walk.places.get(output) != Place(0, 1):
            raise MismatchError(output.producer(), "its result is not a row for every image of the batch")
    return walk
