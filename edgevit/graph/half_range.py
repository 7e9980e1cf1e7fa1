"""mark_wide: which nodes of a graph leave float16's range, found on images, so that they are computed in float32.

Some checkpoints hold single channels of 10⁵ in the residual stream. In float16 they are infinite, and the answer is
not a number; float32 for the few nodes that see them costs little. Marks are kept in the ONNX file as metadata of the
nodes, so that a device that compiles the file honours them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from edgevit.core.progress import Progress, ignore_progress
from edgevit.graph.graph import Graph
from edgevit.graph.magnitudes import measure_magnitudes

if TYPE_CHECKING:
    import numpy.typing as npt

MARK = "edgevit.arithmetic"
LARGEST_HALF = 65504.0
HEADROOM = 2.0  # for images not seen
_FLOATS = (None, ir.DataType.FLOAT)


def mark_wide(
    graph: Graph, pixels: Sequence[npt.NDArray[np.uint8]], progress: Progress = ignore_progress
) -> tuple[str, ...]:
    """Mark the nodes that read or write a value beyond half of float16's range; gives their names.

    Args:
        graph: Float32, without Q/DQ pairs; its nodes are marked.
        pixels: Images, ``(B, H, W, 3) uint8`` each.
        progress: Told about every segment.
    """
    limit = LARGEST_HALF / HEADROOM
    large = {name for name, v in graph.model.graph.initializers.items() if _exceeds(v, limit)}
    whole = find_whole_numbers(graph)
    values = [v for node in graph.model.graph for v in node.outputs if v.dtype in _FLOATS and v.name not in whole]
    largest = measure_magnitudes(graph, [v.name or "" for v in values], pixels, "float16 range", progress)
    large.update(name for name, found in largest.items() if not found <= limit)  # also where it is not a number
    marked = []
    for node in graph.model.graph:
        if any(v is not None and v.name in large for v in (*node.inputs, *node.outputs)):
            node.metadata_props[MARK] = "fp32"
            marked.append(node.name or "")
    return tuple(marked)


def is_wide(node: ir.Node) -> bool:
    """Whether a node was marked."""
    return node.metadata_props.get(MARK) == "fp32"


def find_whole_numbers(graph: Graph) -> set[str]:
    """Values of no recorded type that are sizes, as those of a batch that may vary, and what is computed from them."""
    found: set[str] = set()
    for node in graph.model.graph:
        first = node.inputs[0] if node.inputs else None
        whole = first is not None and (first.dtype not in _FLOATS or first.name in found)
        if node.op_type in ("Shape", "Size") or (whole and node.op_type not in ("Cast", "DequantizeLinear")):
            found.update(value.name or "" for value in node.outputs if value.dtype is None)
    return found


def _exceeds(value: ir.Value, limit: float) -> bool:
    tensor = value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or not tensor.size:
        return False
    return not np.abs(tensor.numpy()).max() <= limit
