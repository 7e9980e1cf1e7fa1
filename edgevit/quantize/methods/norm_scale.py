"""Give a LayerNorm's output channels one range before they share a grid; exact in float (RepQ-ViT).

Li et al., 2023, arXiv:2212.08254: a channel's range is brought to the mean of all channels' by its weight of the
LayerNorm, and its middle to zero by its bias; the Linears that read it undo both in their weights and biases. It is
meant for residual streams with outlier channels. A rotated stream has none, so there is little left to do then.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.graph.linears import change_constant, find_bias_value, is_transposed, read_weight, weight_of
from edgevit.graph.moves import LAYOUT_OPS

_LARGEST_FACTOR = 20.0  # a channel that is nearly silent must not be blown up


def find_norm_readers(norm: ir.Node) -> list[ir.Node] | None:
    """The Linears that read a LayerNorm; ``None`` where something else does, or one has no bias to take the shift."""
    width = _width(norm.outputs[0])
    found: list[ir.Node] = []
    values = [norm.outputs[0]]
    while values:
        value = values.pop()
        if value.is_graph_output():
            return None
        for use in value.uses():
            node = use.node
            weight = read_weight(node) if node.op_type in ("MatMul", "Gemm") and use.idx == 0 else None
            if weight is not None and len(weight) == width and find_bias_value(node) is not None:
                found.append(node)
            elif node.op_type in LAYOUT_OPS and use.idx == 0 and _keeps_channels(node, width):
                values.append(node.outputs[0])
            else:
                return None
    return found or None


def _width(value: ir.Value) -> int | None:
    size = value.shape[-1] if value.shape is not None and len(value.shape) else None
    return size if isinstance(size, int) else None


def _keeps_channels(node: ir.Node, width: int | None) -> bool:
    """Whether channels are the last axis in front of and behind a layout op."""
    result = node.outputs[0]
    if width is None or _width(result) != width or result.shape is None:
        return False
    if node.op_type == "Transpose":
        order = node.attributes["perm"].as_ints() if "perm" in node.attributes else ()
        return bool(order) and order[-1] == len(order) - 1
    if node.op_type == "Gather":
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
        return axis not in (-1, len(result.shape) - 1)
    return True


def choose_norm_scale(
    low: npt.NDArray[np.float32], high: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """``(center, factor)``, ``(C,)`` each: ``(x − center) · factor`` has the same reach in all channels.

    ``low`` and ``high``, ``(C,)`` each, are the smallest and the largest value seen of each channel.
    """
    reach = np.maximum((high - low) / 2, 1e-6)
    factor = np.clip(reach.mean() / reach, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR)
    return ((high + low) / 2).astype(np.float32), factor.astype(np.float32)


def fold_norm_scale(
    norm: ir.Node, readers: Sequence[ir.Node], center: npt.NDArray[np.float32], factor: npt.NDArray[np.float32]
) -> None:
    """Change a LayerNorm's weight and bias and its readers' in place, so that the same is computed.

    Args:
        norm: LayerNormalization with weight and bias.
        readers: Of :func:`find_norm_readers`.
        center: ``(C,)``.
        factor: ``(C,)``, above 0.
    """
    weight, bias = norm.inputs[1:3]
    change_constant(weight, lambda old: old * factor)
    change_constant(bias, lambda old: (old - center) * factor)
    for node in readers:
        shift = center.astype(np.float64) @ weight_of(node).astype(np.float64)
        change_constant(
            node.inputs[1], functools.partial(np.multiply, 1 / (factor if is_transposed(node) else factor[:, None]))
        )
        change_constant(find_bias_value(node), functools.partial(np.add, shift))
