"""join_graphs: two graphs into one, the second of which goes on where the first ends."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgevit.graph.carried import CARRIED
from edgevit.graph.graph import Graph, known_shape, static_shape


def join_graphs(front: Graph, back: Graph, links: Mapping[str, str]) -> None:
    """Append ``back`` to ``front``, in place; ``back`` is used up.

    Args:
        front: Its outputs give way to those of ``back``.
        back: Of the same opset. An input that is no link is an input of ``front`` of the same name.
        links: Inputs of ``back`` to outputs of ``front``, of as many numbers; where the shapes differ, a Reshape
            stands between them.
    """
    first, second = front.model.graph, back.model.graph
    made = {value.name: value for value in [*first.outputs, *first.inputs]}
    sources = {value: made[links.get(value.name or "", value.name or "")] for value in second.inputs}
    owned = dict(second.initializers)
    nodes, outputs = list(second), list(second.outputs)
    taken = _list_names(front)
    second.outputs.clear()
    second.inputs.clear()
    second.initializers.clear()
    second.remove(nodes)
    for name, value in owned.items():
        value.name = _free(f"{CARRIED}{name.lstrip('/')}", taken)
        if value.const_value is not None:
            value.const_value.name = value.name
        first.register_initializer(value)
    for node in nodes:
        node.name = _free(f"{CARRIED}{(node.name or node.op_type).lstrip('/')}", taken)
        for value in node.outputs:
            if value not in outputs:
                value.name = _free(f"{CARRIED}{(value.name or node.name).lstrip('/')}", taken)
    for value, source in sources.items():
        if value.uses():
            value.replace_all_uses_with(_reshape(front, source, value))
    first.extend(nodes)
    first.outputs.clear()
    first.outputs.extend(outputs)


def _reshape(front: Graph, source: ir.Value, like: ir.Value) -> ir.Value:
    if static_shape(source) == static_shape(like):
        return source
    shape = np.asarray(known_shape(like), np.int64)
    target = front.add_constant(f"{CARRIED}{like.name}.shape", shape)
    node = ir.node("Reshape", [source, target], name=f"{CARRIED}{like.name}")
    value = node.outputs[0]
    value.name, value.shape, value.type = node.name, like.shape, source.type
    front.model.graph.append(node)
    return value


def _list_names(graph: Graph) -> set[str]:
    inner = graph.model.graph
    values = [*inner.inputs, *inner.initializers.values(), *(v for node in inner for v in node.outputs)]
    return {v.name or "" for v in values} | {node.name or "" for node in inner}


def _free(name: str, taken: set[str]) -> str:
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}.{number}"
    taken.add(found)
    return found
