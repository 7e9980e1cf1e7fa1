"""Optimised float graphs of small models, exported once a process, and their images."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime

from edgevit.core.target import ExportForm
from edgevit.graph.graph import Graph
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.models.export import export_model
from tests.support.small_models import SWIN, VIT, VITS, make_images, make_model

CONFIGS: dict[str, Any] = {
    "vit": dataclasses.replace(VIT, depth=2),
    "rotary": dataclasses.replace(VITS["rotary"], depth=2),
    "late_tokens": dataclasses.replace(VITS["late_tokens"], depth=3),
    "eva": dataclasses.replace(VITS["eva"], depth=2),
    "eva_clip": dataclasses.replace(VITS["eva_clip"], depth=2),
    "perception_encoder": dataclasses.replace(VITS["perception_encoder"], depth=2, projection=0, classes=7),
    "swin": dataclasses.replace(SWIN, image_size=(32, 32), depths=(2, 1), heads=(1, 2)),
}
Images = Sequence[npt.NDArray[np.uint8]]


@functools.cache
def _export(family: str, form: ExportForm) -> Graph:
    graph, _ = export_model(make_model(CONFIGS[family]), form)
    return optimize_graph(graph)[0]


def make_graph(family: str, form: ExportForm | None = None) -> Graph:
    """A graph of one's own: ``image (1, H, W, 3) uint8`` to ``logits (1, 7) float32``."""
    return _export(family, form or ExportForm()).copy()


def make_pixels(family: str, count: int = 8, seed: int = 0) -> Images:
    """Images of ``(1, H, W, 3) uint8`` each."""
    images = make_images(CONFIGS[family], count, seed).numpy()
    return [image[None] for image in images]


def run_graph(graph: Graph, images: Images, outputs: Sequence[str] = ("logits",)) -> list[npt.NDArray[np.float32]]:
    """Values of a graph by name, images along the first axis; ONNX Runtime without its own rewrites."""
    model = ir.serde.serialize_model(ir.external_data.load_to_model(graph.copy().model))
    given = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in outputs if n not in given)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    runs = [session.run(list(outputs), {"image": image}) for image in images]
    return [np.concatenate(parts) for parts in zip(*runs, strict=True)]


def find_node(graph: Graph, name: str) -> ir.Node:
    """The node of a name."""
    return next(node for node in graph.model.graph if node.name == name)
