"""choose_running_rows: attention whose rows are brought to one height at run time, where that is worth its time.

One grid serves all probabilities of an attention. Constant gains per row (:mod:`probability_gain
<edgevit.quantize.methods.probability_gain>`) fit the largest probabilities that calibration saw; where these differ
much from image to image, most rows get few codes, and an image with more pointed attention is clipped. With
``exp(s − max s)`` in front of the quantiser every row fills the grid and none is clipped, and the sum of a row's codes
is divided out of the product's result. What it costs is a pass over the scores, which an engine's fused attention does
not need.

A DINOv2-S with a decoder (vit_s_focus), OpenVINO with AVX512-VNNI, 600 photos that calibration had not seen: 37.1 dB
with nine attentions of twelve, instead of 32.8, at 1.055 of the latency. DeiT-T in all: 22.9 instead of 22.2 dB, at
1.09. So it has to pay, site by site, as float sites have to.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from edgevit.core.errors import count_things
from edgevit.core.progress import Progress, ignore_progress
from edgevit.graph.carried import CARRIED
from edgevit.graph.graph import Graph, is_made_by, operand
from edgevit.graph.linears import trace_layout
from edgevit.quantize.carried_noise import is_large, limit_images
from edgevit.quantize.grid import Grid
from edgevit.quantize.placement import GridKind
from edgevit.quantize.plan import QuantizationPlan
from edgevit.quantize.sensitivity import estimate_costs, to_decibels
from edgevit.quantize.site_noise import Pixels, hold_graph, measure_noise, run_held

_STEP = "rows of attention"
_IMAGES = 8
# Of a probability, in multiplications. Nine attentions of vit_s_focus took 1.055 of the time where this says 1.033, as
# what float products are taken to cost is less than they do too: at 130, six of these are float instead, and it kept
# 36.2 instead of 37.1 dB, at 0.86 instead of 0.83 of NNCF's latency with AVX2-VNNI, and 0.81 instead of 0.83 with VNNI.
_COST = 80


@dataclass(frozen=True)
class RunningRows:
    """What was chosen.

    Attributes:
        plan: With running rows at the chosen products.
        damage: SQNR in dB of each site alone, as it is then.
        note: For the report; empty where nothing was chosen.
    """

    plan: QuantizationPlan
    damage: Mapping[str, float]
    note: str = ""


def choose_running_rows(
    graph: Graph,
    plan: QuantizationPlan,
    kind: GridKind,
    pixels: Pixels,
    damage: Mapping[str, float],
    *,
    sqnr_db: float,
    gain: float,
    progress: Progress = ignore_progress,
) -> RunningRows:
    """Running rows for products that have a gain, those first that make most noise for their time.

    Args:
        graph: The plan's.
        plan: Fitted; it is not changed.
        kind: Of a grid of probabilities.
        pixels: Calibration images; the first few are run.
        damage: SQNR in dB of each site of the plan alone.
        sqnr_db: That is wanted; no more is done than it takes.
        gain: Decibels that a percent of the arithmetic has to buy.
        progress: Told about every run.
    """
    sizes = _count_probabilities(graph, plan)
    alone = {name: 10 ** (-value / 10) for name, value in damage.items() if name in plan.sites}
    order = sorted((name for name in sizes if name in alone), key=lambda name: -alone[name] / sizes[name])
    if not order:
        return RunningRows(plan, damage)
    few = pixels[: limit_images(graph, _IMAGES) if is_large(graph, plan) else _IMAGES]
    progress(_STEP, 0, 3)
    held = hold_graph(graph, few)
    reference = run_held(held)
    before = measure_noise(held, plan, list(plan.sites), reference)
    progress(_STEP, 1, 3)
    wanted = 10 ** (-sqnr_db / 10)
    if before <= wanted:
        return RunningRows(plan, damage)
    removed = before - measure_noise(held, _run(plan, kind, order), list(plan.sites), reference)
    progress(_STEP, 2, 3)
    if removed <= 0:
        return RunningRows(plan, damage)
    # What all of them take away is divided among them as the noise that each makes by itself.
    parts = np.cumsum([0.0, *(alone[name] for name in order)]) / sum(alone[name] for name in order)
    noises = [before - removed * float(part) for part in parts]
    total = sum(estimate_costs(graph, list(plan.sites)).values())
    spent = np.cumsum([0.0, *(100 * _COST * sizes[name] / total for name in order)])
    most = next((count for count, noise in enumerate(noises) if noise <= wanted), len(order))
    count = max(range(most + 1), key=lambda count: to_decibels(noises[count]) - gain * float(spent[count]))
    chosen = order[:count]
    twin = _run(plan, kind, chosen)
    after = measure_noise(held, twin, list(twin.sites), reference) if chosen else before
    progress(_STEP, 3, 3)
    if after >= before:
        return RunningRows(plan, damage)
    left = max(0.02, 1 - removed / before * sum(alone.values()) / sum(alone[name] for name in order))
    quieter = {name: round(to_decibels(left * alone[name]), 2) for name in chosen}
    note = (
        f"the rows of probabilities of {count_things(count, 'attention')} are brought to one height at run time, for "
        f"about {spent[count]:.1f} % of the time: {to_decibels(after):.1f} dB instead of {to_decibels(before):.1f}, "
        "with no site in float"
    )
    return RunningRows(twin, {**damage, **quieter}, note)


def _run(plan: QuantizationPlan, kind: GridKind, names: Collection[str]) -> QuantizationPlan:
    full = Grid.from_range(kind, 0.0, 1.0)
    running = {
        name: dataclasses.replace(
            plan.sites[name], grids=(full, *plan.sites[name].grids[1:]), gain=None, running_rows=True
        )
        for name in names
    }
    return dataclasses.replace(plan, sites={**plan.sites, **running})


def _count_probabilities(graph: Graph, plan: QuantizationPlan) -> dict[str, int]:
    """Of products of an encoder's probabilities that have a gain; a batch of any size counts as one image."""
    found = {}
    for node in graph.model.graph:
        name = node.name or ""
        if name not in plan.sites or plan.sites[name].gain is None or name.startswith(CARRIED):
            continue
        value = operand(node, 0)
        if is_made_by(value, "Softmax") and trace_layout(value) is value:
            found[name] = math.prod(side for side in value.shape or () if isinstance(side, int))
    return found
