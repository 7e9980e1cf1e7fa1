"""Which sites of what surrounds an encoder are quantised, and why others are not."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping

import onnx_ir as ir

from edgevit.core.quantization import Quantization
from edgevit.graph.carried import CARRIED
from edgevit.graph.convolutions import CONVOLUTIONS, read_kernel
from edgevit.graph.graph import SITE_OPS, describe_site
from edgevit.graph.linears import read_weight
from edgevit.graph.segments import Segment
from edgevit.quantize.placement import Placement
from edgevit.quantize.site_inputs import count_rows

_LEAST_CHANNELS = 16
HEAVY_SHARE = 0.01
"""Of the multiplications, from which Linears around an encoder are worth the noise of INT8. YOLOS and EoMT have 0.1 and
0.2 %, in heads; RF-DETR nano 7 %, a quarter of its time where they are float and all else is INT8; Mask2Former 43 %."""


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


def find_float_reason(node: ir.Node, placement: Placement, *, heavy: bool = False) -> str:
    """Why an engine library gains nothing by a Linear in INT8, by its name; empty where it gains.

    In front of a decoder of convolutions, which are INT8 too, the way back from the rotation and a Linear of many rows
    are Linears like others. DPT on DINOv2-S: 3 of 44 ms. So are all of many rows around an encoder where together they
    are ``heavy``.
    """
    name = node.name or ""
    reason = next((reason for pattern, reason in placement.float_sites.items() if fnmatch.fnmatch(name, pattern)), "")
    if not reason or not _is_large(node):
        return reason
    return "" if (heavy and name.startswith(CARRIED)) or leads_to_convolutions(node) else reason


def weigh_linears(nodes: Collection[ir.Node]) -> float:
    """Which share of a graph's multiplications is made by Linears around an encoder."""
    macs = {node: describe_site(node).macs for node in nodes if node.op_type in SITE_OPS}
    carried = sum(macs[node] for node in macs if (node.name or "").startswith(CARRIED) and _is_large(node))
    return carried / max(1, sum(macs.values()))


def _is_large(node: ir.Node) -> bool:
    """Whether a node is a Linear of enough rows and columns for INT8 kernels to be faster."""
    weight = read_weight(node) if node.op_type in ("MatMul", "Gemm") else None
    return weight is not None and weight.ndim == 2 and min(*weight.shape, count_rows(node)) >= _LEAST_CHANNELS


def leads_to_convolutions(node: ir.Node) -> bool:
    """Whether all that reads a node's result reaches the graph's outputs by convolutions.

    So a map's decoder begins.
    """
    left = [*node.outputs]
    seen: set[ir.Node] = set()
    while left:
        value = left.pop()
        if value.is_graph_output():
            return False
        for reader in {use.node for use in value.uses()} - seen:
            seen.add(reader)
            if reader.op_type == "Softmax" or (reader.op_type in ("MatMul", "Gemm") and read_weight(reader) is None):
                return False
            if reader.op_type not in CONVOLUTIONS:
                left += reader.outputs
    return bool(seen)


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
