"""Whole models as graphs: a small encoder with taps, and a decoder joined to it, of convolutions or of queries."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from edgevit.core.target import ExportForm
from edgevit.core.task import Task
from edgevit.graph.graph import Graph
from edgevit.graph.join import join_graphs
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.models.export import export_model
from edgevit.models.select_task import select_task
from tests.support.small_models import VIT, make_model

# The image is read beside the taps, one map is read twice, and a shape that is computed stands behind a site.
_DECODER = """
decoder (uint8[1,32,48,3] image, float[1,32,4,6] low, float[1,32,4,6] high)
    => (float[1,16,8,12] mask, float[1,16] score) {
  pixels = Cast <to = 1> (image)
  planes = Transpose <perm = [0, 3, 1, 2]> (pixels)
  seen = Conv <strides = [8, 8]> (planes, seen_weight)
  near = Conv <pads = [1, 1, 1, 1]> (low, near_weight)
  bent = Relu (near)
  far = Conv (high, far_weight)
  sum = Add (bent, far)
  all = Add (sum, seen)
  wide = ConvTranspose <strides = [2, 2]> (all, wide_weight)
  size = Shape (wide)
  same = Reshape (wide, size)
  last = Conv <pads = [1, 1, 1, 1]> (same, last_weight)
  mask = Tanh (last)
  mean = GlobalAveragePool (far)
  score = Flatten (mean)
}
"""
# The likeliest of the tokens are queries in the order of their scores, and each meets an embedding of its place.
_DETECTOR = """
decoder (float[1,32,4,6] map) => (float[1,9,5] logits, float[1,9,4] boxes) {
  rows = Reshape (map, rows_shape)
  tokens = Transpose <perm = [0, 2, 1]> (rows)
  memory = MatMul (tokens, memory_weight)
  classes = MatMul (memory, class_weight)
  likely = ReduceMax <keepdims = 0> (classes, last_axis)
  scores = Where (outside, excluded, likely)
  best, chosen = TopK <axis = 1> (scores, count)
  column = Unsqueeze (chosen, last_axis)
  index = Expand (column, index_shape)
  taken = GatherElements <axis = 1> (memory, index)
  queries = Mul (taken, embeddings)
  bent = Gelu (queries)
  logits = MatMul (bent, logit_weight)
  corners = MatMul (bent, box_weight)
  height = Unsqueeze (best, last_axis)
  boxes = Add (corners, height)
}
"""
_DETECTOR_WEIGHTS = {
    "memory_weight": ((32, 32), 0.2),
    "class_weight": ((32, 5), 0.2),
    "embeddings": ((1, 9, 32), 1.0),
    "logit_weight": ((32, 5), 0.2),
    "box_weight": ((32, 4), 0.2),
}
_DETECTOR_CONSTANTS = {
    "rows_shape": np.asarray([1, 32, 24]),
    "last_axis": np.asarray([-1]),
    "count": np.asarray([9]),
    "index_shape": np.asarray([1, 9, 32]),
    "outside": np.arange(24).reshape(1, 24) % 8 == 0,
    "excluded": np.asarray(-np.inf, np.float32),
}
# A map is projected, enlarged and mixed, as DPT's head does.
_ENLARGING = """
decoder (float[1,32,4,6] low) => (float[1,16,16,24] mask) {
  projected = Conv (low, projected_weight, projected_bias)
  large = Resize <mode = "linear"> (projected, , , sizes)
  mixed = Conv <pads = [1, 1, 1, 1]> (large, mixed_weight, mixed_bias)
  mask = Tanh (mixed)
}
"""
_WEIGHTS = {
    "seen_weight": ((16, 3, 8, 8), 0.0003),
    "near_weight": ((16, 32, 3, 3), 0.06),
    "far_weight": ((16, 32, 1, 1), 0.2),
    "wide_weight": ((16, 16, 2, 2), 0.2),
    "last_weight": ((16, 16, 3, 3), 0.04),
}


_ENLARGING_WEIGHTS = {
    "projected_weight": ((32, 32, 1, 1), 0.2),
    "projected_bias": ((32,), 0.5),
    "mixed_weight": ((16, 32, 3, 3), 0.04),
    "mixed_bias": ((16,), 0.3),
}


@functools.cache
def _make(levels: tuple[int, ...]) -> Graph:
    return _join(levels, _DECODER, _WEIGHTS, {}, ("low", "high"))


@functools.cache
def _make_enlarging() -> Graph:
    return _join((2,), _ENLARGING, _ENLARGING_WEIGHTS, {"sizes": np.asarray([1, 32, 16, 24])}, ("low",))


@functools.cache
def _make_detector() -> Graph:
    return _join((2,), _DETECTOR, _DETECTOR_WEIGHTS, _DETECTOR_CONSTANTS, ("map",))


def _join(
    levels: tuple[int, ...],
    decoder: str,
    weights: Mapping[str, tuple[tuple[int, ...], float]],
    constants: Mapping[str, npt.NDArray[Any]],
    inputs: tuple[str, ...],
) -> Graph:
    model = select_task(make_model(dataclasses.replace(VIT, classes=0)), Task("features", levels=levels))
    front = optimize_graph(export_model(model, ExportForm())[0])[0]
    taps = [value.name or "" for value in front.model.graph.outputs]
    opset = front.model.graph.opset_imports[""]
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>{decoder}')
    generator = np.random.default_rng(0)
    drawn = {name: generator.normal(0, size, shape).astype(np.float32) for name, (shape, size) in weights.items()}
    for name, numbers in {**drawn, **constants}.items():
        proto.graph.initializer.append(numpy_helper.from_array(numbers, name))
    back = Graph(ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True)))
    for node in back.model.graph:
        node.name = node.outputs[0].name
    join_graphs(front, back, dict(zip(inputs, (taps[0], taps[-1]), strict=False)))
    return front


def make_whole_graph(levels: tuple[int, ...] = (0, 2)) -> Graph:
    """``image (1, 32, 48, 3) uint8`` to ``mask (1, 16, 8, 12)`` and ``score (1, 16)``, which read levels of a ViT."""
    return _make(levels).copy()


def make_detector_graph() -> Graph:
    """``image (1, 32, 48, 3) uint8`` to ``logits (1, 9, 5)`` and ``boxes (1, 9, 4)`` of the 9 likeliest tokens."""
    return _make_detector().copy()


def make_enlarging_graph() -> Graph:
    """``image (1, 32, 48, 3) uint8`` to ``mask (1, 16, 16, 24)``, by a convolution of a map that is enlarged."""
    return _make_enlarging().copy()
