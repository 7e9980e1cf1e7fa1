"""list_convs: which convolutions of what surrounds an encoder are quantised, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from edgevit.core.quantization import Quantization
from edgevit.graph.carried import CARRIED
from edgevit.graph.convolutions import CONVOLUTIONS, read_kernel
from edgevit.graph.segments import Segment
from edgevit.quantize.placement import Placement

_LEAST_CHANNELS = 16


def list_convs(
    whole: Segment, placement: Placement, pins: Mapping[str, str], quantization: Quantization, reasons: dict[str, str]
) -> list[ir.Node]:
    """Those that are quantised, in the order of execution.

    Args:
        whole: All nodes of a graph.
        placement: The engine library's.
        pins: The recipe's choice by site.
        quantization: The recipe's decisions.
        reasons: Is told why the others stay float.
    """
    found = []
    for node in whole.nodes:
        name = node.name or ""
        if node.op_type not in CONVOLUTIONS or not name.startswith(CARRIED):
            continue
        if reason := _explain_float(node, placement, pins.get(name), quantization):
            reasons[name] = reason
        else:
            found.append(node)
    return found


def _explain_float(node: ir.Node, placement: Placement, pin: str | None, quantization: Quantization) -> str:
    """Why a convolution stays float; empty where it is quantised."""
    if pin == "float":
        return "the recipe keeps it float"
    if quantization.activations == "float":
        return "the recipe keeps activations float"
    if pin is None and node.op_type == "ConvTranspose" and not placement.transposed_convolutions:
        return "the engine library runs transposed convolutions in float"
    kernel = read_kernel(node)
    if kernel is None:
        return "its kernel is computed, or its channels are in groups"
    if pin is None and min(kernel.shape) < _LEAST_CHANNELS:
        return f"a convolution to {kernel.shape[1]} channels is no faster in INT8"
    return ""
