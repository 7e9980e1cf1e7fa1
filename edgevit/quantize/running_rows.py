"""choose_running_rows: attention whose rows are brought to the same height at run time, where that is worth its time.

One grid serves all probabilities of an attention. Constant gains per row (:mod:`probability_gain
<edgevit.quantize.methods.probability_gain>`) fit the largest probabilities that calibration saw; where these differ
much from image to image, most rows get few codes, and an image with more pointed attention is clipped. With
``exp(s − max s)`` in front of the quantiser every row fills the grid and none is clipped, and the row's sum is divided
out of the product's result. It is exact in float. What it costs is a pass over the scores, which an engine's fused
attention does not need.

A DINOv2-S with a decoder (vit_s_focus, 100 photos that calibration had not seen): 36.8 dB instead of 30.5, at 1.03 of
the latency in OpenVINO. DeiT-T: 22.9 instead of 22.2 dB at 1.09; so it has to pay, as float sites have to. Divided by
the sum of the rounded powers, so that rows add up to one, it was 35.1 dB.
"""

from __future__ import annotations

import dataclasses
import math

from edgevit.core.progress import Progress, ignore_progress
from edgevit.graph.carried import CARRIED
from edgevit.graph.graph import Graph, is_made_by, operand
from edgevit.graph.linears import trace_layout
from edgevit.quantize.carried_noise import is_large, limit_images
from edgevit.quantize.grid import Grid
from edgevit.quantize.placement import GridKind
from edgevit.quantize.plan import QuantizationPlan
from edgevit.quantize.sensitivity import estimate_costs, to_decibels
from edgevit.quantize.site_noise import Pixels, measure_noise, run_graph

_STEP = "rows of attention"
_IMAGES = 8
# Of a probability, in multiplications: 0.14 and 0.23 ns (vit_s_focus and DeiT-T on two cores with AVX512-VNNI).
_COST = 80


def choose_running_rows(
    graph: Graph,
    plan: QuantizationPlan,
    kind: GridKind,
    pixels: Pixels,
    *,
    sqnr_db: float,
    gain: float,
    progress: Progress = ignore_progress,
) -> tuple[QuantizationPlan, str]:
    """The plan with running rows in all attention that has a gain, if the decibels are worth the time.

    Args:
        graph: The plan's.
        plan: Fitted; it is not changed.
        kind: Of a grid of probabilities.
        pixels: Calibration images; the first few are run.
        sqnr_db: That is wanted: where it is reached without, nothing is done.
        gain: Decibels that a percent of the arithmetic has to buy.
        progress: Told about both runs.

    Returns:
        A plan; and for the report what was found, empty where there was nothing to decide.
    """
    names = [
        name
        for node in graph.model.graph
        if (name := node.name or "") in plan.sites
        and plan.sites[name].gain is not None
        and not name.startswith(CARRIED)
        and is_made_by(node.inputs[0], "Softmax")
        and trace_layout(operand(node, 0)) is node.inputs[0]
    ]
    if not names:
        return plan, ""
    few = pixels[: limit_images(graph, _IMAGES) if is_large(graph, plan) else _IMAGES]
    progress(_STEP, 0, 2)
    reference = run_graph(graph, few)
    before = to_decibels(measure_noise(graph, plan, list(plan.sites), few, reference))
    progress(_STEP, 1, 2)
    if before >= sqnr_db:
        progress(_STEP, 2, 2)
        return plan, ""
    full = Grid.from_range(kind, 0.0, 1.0)
    running = {
        name: dataclasses.replace(site, grids=(full, *site.grids[1:]), gain=None, running_rows=True)
        if name in names
        else site
        for name, site in plan.sites.items()
    }
    twin = dataclasses.replace(plan, sites=running)
    after = to_decibels(measure_noise(graph, twin, list(twin.sites), few, reference))
    progress(_STEP, 2, 2)
    price = 100 * _count_probabilities(graph, names) * _COST / sum(estimate_costs(graph, list(plan.sites)).values())
    found = f"{after:.1f} dB instead of {before:.1f} for about {price:.1f} % of the time"
    if after - before < gain * price or after <= before:
        return plan, ""
    return twin, f"each row of probabilities is divided by its largest at run time: {found}, before any site is float"


def _count_probabilities(graph: Graph, names: list[str]) -> int:
    """Of all rows of some products; a batch of any size counts as one image."""
    shapes = [operand(node, 0).shape or () for node in graph.model.graph if node.name in names]
    return sum(math.prod(side for side in shape if isinstance(side, int)) for shape in shapes)
