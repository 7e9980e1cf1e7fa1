"""Convolutions in a graph: their kernels as matrices, whose rows are what an output channel adds up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.graph.graph import constant_of

CONVOLUTIONS = ("Conv", "ConvTranspose")


def output_axis(node: ir.Node) -> int:
    """Of a kernel's output channels."""
    return 0 if node.op_type == "Conv" else 1


def read_kernel(node: ir.Node) -> npt.NDArray[np.float32] | None:
    """A convolution's kernel ``(K, N) float32``, N output channels; neighbouring rows are neighbouring input channels.

    ``None`` where the kernel is computed, or channels are in groups.
    """
    if node.op_type not in CONVOLUTIONS or node.attributes.get_int("group", 1) != 1:
        return None
    kernel = constant_of(node.inputs[1])
    if kernel is None or kernel.ndim != 4:
        return None
    order = (2, 3, 1, 0) if node.op_type == "Conv" else (2, 3, 0, 1)
    moved = kernel.transpose(order)
    return np.ascontiguousarray(moved.reshape(-1, moved.shape[-1]), np.float32)


def shape_kernel(node: ir.Node, matrix: npt.NDArray[np.generic], shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    """The inverse of :func:`read_kernel`: ``(K, N)`` in the kernel's own ``shape``."""
    first, second, height, width = shape
    if node.op_type == "Conv":
        return np.ascontiguousarray(matrix.reshape(height, width, second, first).transpose(3, 2, 0, 1))
    return np.ascontiguousarray(matrix.reshape(height, width, first, second).transpose(2, 3, 0, 1))
