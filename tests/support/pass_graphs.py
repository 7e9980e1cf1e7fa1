"""Graphs written as text, and run before and after a pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime

from edgevit.graph.graph import Graph
from edgevit.graph.passes.fold_static_shapes import fold_static_shapes

Feeds = Mapping[str, npt.NDArray[Any]]


def parse(body: str, inputs: str = "float[2,3] x", outputs: str = "float[a,b] y", opset: int = 20) -> Graph:
    """A graph with static shapes, its constants initializers, as the passes for foreign files find it."""
    text = f'<ir_version: 9, opset_import: ["" : {opset}]> graph ({inputs}) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type.lower()}_{index}"
    graph = Graph(ir.serde.deserialize_model(model))
    fold_static_shapes(graph)
    return graph


def run(graph: Graph, feeds: Feeds) -> npt.NDArray[np.float32]:
    """The first output, by ONNX Runtime without its own rewrites."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = ir.serde.serialize_model(graph.model).SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    result: npt.NDArray[np.float32] = session.run(None, feeds)[0]
    return result


def draw(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Random numbers around zero."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def constant(name: str, numbers: npt.NDArray[np.generic]) -> str:
    """A Constant node as text."""
    kinds = {"float32": "float", "int64": "int64"}
    values = ", ".join(repr(float(v)) if numbers.dtype.kind == "f" else str(int(v)) for v in numbers.reshape(-1))
    shape = ",".join(map(str, numbers.shape))
    return f"{name} = Constant <value = {kinds[str(numbers.dtype)]}[{shape}] {{{values}}}> () "
