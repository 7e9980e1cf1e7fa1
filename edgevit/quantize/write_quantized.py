"""write_quantized: the graph that is shipped, from the float graph and the plan for it."""

from __future__ import annotations

from edgevit.core.quantization import QuantizationRecord
from edgevit.graph.graph import Graph
from edgevit.graph.passes.fuse_row_gather import fuse_row_gather
from edgevit.graph.passes.multiply_resize import multiply_resize
from edgevit.quantize.placement import Placement
from edgevit.quantize.plan import QuantizationPlan, apply_plan


def write_quantized(base: Graph, plan: QuantizationPlan, record: QuantizationRecord, placement: Placement) -> Graph:
    """Put in the Q/DQ pairs of the sites that are quantised by the record, and bring heads into the library's order."""
    graph = apply_plan(base, plan, [site.name for site in record.sites if site.precision != "float"])
    if placement.gather_rows:
        fuse_row_gather(graph)
    if placement.multiply_resize:
        multiply_resize(graph)
    return graph
