"""New nodes in the place of old ones, with the types, shapes and traces that the passes behind them read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.graph.graph import Graph, replace_value, static_shape


class Builder:
    """Nodes that are inserted before one node of a graph.

    Args:
        graph: Changed only by :meth:`insert`.
        stem: What new names begin with.
        like: Gives the trace of the module that they belong to.
    """

    def __init__(self, graph: Graph, stem: str, like: ir.Node) -> None:
        self.graph, self.stem, self.like = graph, stem, like
        self.nodes: list[ir.Node] = []

    def constant(self, name: str, numbers: npt.NDArray[Any]) -> ir.Value:
        """A new initializer."""
        return self.graph.add_constant(f"{self.stem}.{name}", numbers)

    def add(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        name: str,
        shape: Sequence[int] | ir.Shape | None,
        **attributes: Any,
    ) -> ir.Value:
        """One node, its result of the first input's type."""
        node = ir.node(op_type, list(inputs), attributes, name=f"{self.stem}/{name}")
        node.metadata_props.update(self.like.metadata_props)
        value = node.outputs[0]
        value.name, value.type = node.name, inputs[0].type
        value.shape = None if shape is None else ir.Shape(list(shape))
        self.nodes.append(node)
        return value

    def reshape(self, value: ir.Value, shape: Sequence[int], name: str) -> ir.Value:
        """The value in another shape; the value itself where it has that shape."""
        if static_shape(value) == tuple(shape):
            return value
        target = self.constant(f"{name}.shape", np.asarray(shape, np.int64))
        return self.add("Reshape", [value, target], name, shape)

    def insert(self, before: ir.Node, old: ir.Value, new: ir.Value) -> None:
        """Put the nodes before ``before``, and ``new`` in the place of ``old``, which the graph may give."""
        self.graph.model.graph.insert_before(before, self.nodes)
        replace_value(old, new)

    def replace(self, old: ir.Value, op_type: str, inputs: Sequence[ir.Value], name: str, **attributes: Any) -> None:
        """One node in the place of a computed value and of what only led to it."""
        new, producer = self.add(op_type, inputs, name, old.shape, **attributes), old.producer()
        assert producer is not None
        new.type = old.type
        self.graph.model.graph.insert_after(producer, self.nodes)
        old.replace_all_uses_with(new)
