"""A graph that was exported for several images a call, brought to another number of them.

An exporter with a fixed batch writes that number into reshapes, expanded tokens and masks, multiplied with windows,
heads or tokens. Where the images of each tensor lie is followed node by node; what holds the number is then restated.
A graph that mixes images, or treats them differently, is left as it is.
"""

from __future__ import annotations

import onnx_ir as ir

from edgevit.checkpoints.onnx_file.batch_steps import STEPS, Place, Walk, require_shape
from edgevit.graph.graph import Graph
from edgevit.graph.patterns.pieces import MismatchError


def set_batch(graph: Graph, old: int, new: int) -> None:
    """Restate a graph in place for another number of images a call; exact.

    Args:
        graph: As :func:`edgevit.graph.passes.fold_static_shapes.fold_static_shapes` leaves it, of one input
            ``(old, 3, H, W)`` and one output. Shapes of what is computed are gone afterwards.
        old: Two or more.
        new: One or more.

    Raises:
        MismatchError: Images are mixed, or an operator is not known; the graph is as it was.
    """
    if old < 2:
        raise MismatchError(None, "nothing tells a batch of one from any other axis of one")
    image, output = graph.model.graph.inputs[0], graph.model.graph.outputs[0]
    walk = Walk(graph, old, new)
    walk.places[image] = Place(0, 1)
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
    if walk.places.get(output) != Place(0, 1):
        raise MismatchError(output.producer(), "its result is not a row for every image of the batch")
    walk.apply()
    shape = require_shape(image, None)
    image.shape = ir.Shape([new, *shape[1:]])
    graph.forget_shapes()
