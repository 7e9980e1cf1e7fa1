"""fit_fp8: scales and weights of the sites that can be FP8 (E4M3).

An FP8 number has three bits of mantissa at every size, so a range that is twice too wide costs nothing but the smallest
numbers: a scale brings the largest magnitude that was seen to the largest number, and nothing that the INT8 quantiser
fits besides (grids, rotation, rounding against the inputs) would gain much. Sites are placed by the same table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from edgevit.core.errors import CalibrationError
from edgevit.core.progress import Progress
from edgevit.graph.graph import Graph, is_made_by
from edgevit.graph.linears import STACK, read_weight, trace_layout
from edgevit.graph.magnitudes import measure_magnitudes
from edgevit.quantize.grid import FloatGrid
from edgevit.quantize.placement import Placement
from edgevit.quantize.plan import SitePlan
from edgevit.quantize.site_inputs import count_rows, reads_image

if TYPE_CHECKING:
    import numpy.typing as npt

_SMALLEST_SCALE = 2.0**-14  # float16's smallest normal number, as the scale becomes float16


def fit_fp8(
    graph: Graph,
    pixels: Sequence[npt.NDArray[np.generic]],
    placement: Placement,
    products: str,
    pins: Mapping[str, str],
    reasons: MutableMapping[str, str],
    progress: Progress,
) -> Iterator[tuple[str, SitePlan]]:
    """Find the scales of every site that may be FP8; weights have a scale for each output channel.

    Args:
        graph: Optimised, float32; not changed.
        pixels: Calibration images, ``(B, H, W, 3) uint8`` each.
        placement: The engine library's.
        products: ``both``: also the operands of attention's products; probabilities have the scale 1/448.
        pins: Precisions of the sites that the recipe decides.
        reasons: Is told why a site stays float.
        progress: Told about every segment.

    Yields:
        Sites and their plans, in the order of execution.

    Raises:
        CalibrationError: Activations that are not finite, with their names.
    """
    chosen = []
    for node in graph.model.graph:
        if node.op_type in ("MatMul", "Gemm"):
            reason = _explain_float(node, placement, products, pins)
            if reason:
                reasons[node.name or ""] = reason
            else:
                chosen.append(node)
    names = [trace_layout(v).name or "" for node in chosen for v in _list_operands(node)]
    largest = measure_magnitudes(graph, names, pixels, "quantize", progress)
    bad = [name for name, value in largest.items() if not np.isfinite(value)]
    if bad:
        raise CalibrationError(f"activations of {', '.join(bad)} are not finite", "the checkpoint may be damaged")
    for node in chosen:
        sources = [trace_layout(v) for v in _list_operands(node)]
        grids = tuple(FloatGrid(_find_scale(source, largest)) for source in sources)
        weight, scale = read_weight(node), None
        if weight is not None:
            scale = np.maximum(np.abs(weight).max(axis=0) / FloatGrid.largest, _SMALLEST_SCALE).astype(np.float32)
            weight = (weight / scale).astype(grids[0].dtype)
        yield node.name or "", SitePlan(tuple(v.name or "" for v in sources), grids, weight, scale)


def _find_scale(source: ir.Value, largest: Mapping[str, float]) -> float:
    """What brings the largest magnitude that was seen to the largest number; of probabilities always the same."""
    reach = largest[source.name or ""] / FloatGrid.largest
    return 1 / FloatGrid.largest if is_made_by(source, "Softmax") else max(reach, _SMALLEST_SCALE)


def _list_operands(node: ir.Node) -> list[ir.Value]:
    """What gets a scale from calibration: a Linear's input, or both operands of a product."""
    return [v for v in node.inputs[: 2 if read_weight(node) is None else 1] if v is not None]


def _explain_float(node: ir.Node, placement: Placement, products: str, pins: Mapping[str, str]) -> str:
    """Why a site stays float; empty where it may be FP8."""
    weight = read_weight(node)
    if pins.get(node.name or "") == "float":
        return "the recipe keeps it float"
    if weight is None:
        return "" if products == "both" else "the engine fuses attention's products in float"
    if weight.ndim != 2:
        return STACK
    if reads_image(node):
        return "the engine takes no unsigned input"
    if min(weight.shape) < placement.smallest_dimension:
        return f"a matrix of {' × '.join(map(str, weight.shape))} is no faster in FP8"
    return "a Linear of one row is no faster in FP8" if count_rows(node) < placement.smallest_rows else ""
