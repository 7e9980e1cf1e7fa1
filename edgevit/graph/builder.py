"""New nodes in the place of old ones, with the types, shapes and traces that the passes behind them read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.graph.graph import Graph, static_shape


class Builder:
    """Nodes that are inserted ahead of one node of a graph.

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
        tensor = ir.tensor(np.ascontiguousarray(numbers) if numbers.ndim else numbers, name=f"{self.stem}.{name}")
        kind = ir.TensorType(tensor.dtype)
        value = ir.Value(name=tensor.name, shape=ir.Shape(numbers.shape), type=kind, const_value=tensor)
        self.graph.model.graph.register_initializer(value)
        return value

    def add(
        self, op_type: str, inputs: Sequence[ir.Value], name: str, shape: Sequence[int], **attributes: Any
    ) -> ir.Value:
        """One node, its result of the first input's type."""
        node = ir.node(op_type, list(inputs), attributes, name=f"{self.stem}/{name}")
        node.metadata_props.update(self.like.metadata_props)
        value = node.outputs[0]
        value.name, value.type, value.shape = node.name, inputs[0].type, ir.Shape(list(shape))
        self.nodes.append(node)
        return value

    def reshape(self, value: ir.Value, shape: Sequence[int], name: str) -> ir.Value:
        """The value in another shape; the value itself where it has that shape."""
        if static_shape(value) == tuple(shape):
            return value
        target = self.constant(f"{name}.shape", np.asarray(shape, np.int64))
        return self.add("Reshape", [value, target], name, shape)

    def insert(self, before: ir.Node, old: ir.Value, new: ir.Value) -> None:
        """Put the nodes ahead of ``before``, and ``new`` in the place of ``old``."""
        self.graph.model.graph.insert_before(before, self.nodes)
        old.replace_all_uses_with(new)
