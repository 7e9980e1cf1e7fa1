"""What OpenVINO makes of a graph: its layers, and its answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from edgevit.core.isa import TIERS, read_tier
from edgevit.graph.graph import Graph

Layer = tuple[str, str, str]


def compile_graph(graph: Graph, folder: Path) -> openvino.CompiledModel:
    """For the CPU, with float32 around what is quantised."""
    graph.save(folder / "graph.onnx")
    return openvino.Core().compile_model(folder / "graph.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def list_layers(compiled: openvino.CompiledModel) -> list[Layer]:
    """Kind, type and the nodes behind it of every layer."""
    keys = ("layerType", "runtimePrecision", "originalLayersNames")
    infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    return [(found[0], found[1], found[2]) for found in ([info[key].astype(str) for key in keys] for info in infos)]


def count_attentions(layers: Sequence[Layer], kind: str) -> int:
    """Layers of a type that hold a whole attention."""
    whole = ("attn/scores", "attn/softmax", "attn/context")
    return sum(layer == "Subgraph" and of == kind and all(n in names for n in whole) for layer, of, names in layers)


def has_int8_attention() -> bool:
    """Whether OpenVINO has a kernel of INT8 attention for what this process computes with: it begins with VNNI."""
    tier = read_tier()
    return tier is not None and not TIERS[tier].saturates


def infer(compiled: openvino.CompiledModel, images: Any) -> list[npt.NDArray[np.float32]]:
    """All outputs, images along the first axis."""
    request = compiled.create_infer_request()
    rows = [[value.copy() for value in request.infer({0: image}).values()] for image in images]
    return [np.concatenate(column) for column in zip(*rows, strict=True)]
