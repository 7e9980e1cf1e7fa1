"""A whole model as a graph: a small encoder with taps, and a decoder of convolutions joined to it."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
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
def _make(decoder: str, levels: tuple[int, ...]) -> Graph:
    model = select_task(make_model(dataclasses.replace(VIT, classes=0)), Task("features", levels=levels))
    front = optimize_graph(export_model(model, ExportForm())[0])[0]
    taps = [value.name or "" for value in front.model.graph.outputs]
    opset = front.model.graph.opset_imports[""]
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>{decoder}')
    generator = np.random.default_rng(0)
    for name, (shape, size) in (_WEIGHTS if decoder == _DECODER else _ENLARGING_WEIGHTS).items():
        weight = generator.normal(0, size, shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(weight, name))
    if decoder == _ENLARGING:
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray([1, 32, 16, 24]), "sizes"))
    back = Graph(ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True)))
    join_graphs(front, back, {"low": taps[0], **({"high": taps[-1]} if decoder == _DECODER else {})})
    return front


def make_whole_graph(levels: tuple[int, ...] = (0, 2)) -> Graph:
    """``image (1, 32, 48, 3) uint8`` to ``mask (1, 16, 8, 12)`` and ``score (1, 16)``, which read levels of a ViT."""
    return _make(_DECODER, levels).copy()


def make_enlarging_graph() -> Graph:
    """``image (1, 32, 48, 3) uint8`` to ``mask (1, 16, 16, 24)``, by a convolution of a map that is enlarged."""
    return _make(_ENLARGING, (2,)).copy()
