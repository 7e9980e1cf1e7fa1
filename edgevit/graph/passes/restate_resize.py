"""State a Resize by the size of its result in place of scales, where both mean the same.

Scales are float32 whatever the data are, which a strongly typed graph in float16 has no room for.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.graph.graph import Graph, constant_of, static_shape


def restate_resize(graph: Graph) -> PassRecord:
    """Rewrite in place; exact: only where every scale is the ratio of two whole sizes."""
    applied: list[str] = []
    skipped: list[Skip] = []
    for node in graph.model.graph:
        if node.op_type != "Resize" or node.domain:
            continue
        name = node.name or node.op_type
        reason = _restate(graph, node)
        if reason:
            skipped.append(Skip(name, reason))
        else:
            applied.append(name)
    return PassRecord("restate_resize", "graph", tuple(applied), tuple(skipped))


def _restate(graph: Graph, node: ir.Node) -> str:
    """Restate one; gives why it cannot be, or nothing."""
    before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    mode = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    if mode == "tf_crop_and_resize":
        return "it cuts a part out of its input"
    if before is None or after is None:
        return "its sizes are not static"
    kept = node.attributes.get_string("keep_aspect_ratio_policy", "stretch")
    if kept != "stretch":
        return "it keeps the aspect ratio"
    scales = constant_of(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    axes = [int(axis) % len(before) for axis in node.attributes.get_ints("axes") or range(len(before))]
    if scales is not None and scales.size:
        exact = [after[axis] / before[axis] for axis in axes]
        if not np.array_equal(scales.astype(np.float32), np.asarray(exact, np.float32)):
            return "its scales are no ratios of whole sizes"
    elif len(node.inputs) < 4 or node.inputs[3] is None:
        return "its scales are computed"
    name = f"{node.name or node.outputs[0].name}.sizes"
    sizes = graph.add_constant(name, np.asarray([after[axis] for axis in axes], np.int64))
    node.resize_inputs(4)
    node.replace_input_with(1, None)  # the region, which only a crop reads
    node.replace_input_with(2, None)
    node.replace_input_with(3, sizes)
    return ""
