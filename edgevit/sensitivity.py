"""How much damage each site does: SQNR at the logits where it alone is INT8."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgevit.graph import Graph
from edgevit.plan import QuantizationPlan, apply_plan
from edgevit.progress import Progress, ignore_progress
from edgevit.segments import SegmentRunner

_GOOD_DB = 30.0
_LARGEST_FALLBACK = 0.05  # of the sites
_RUNS = 400  # inferences that ranking may take; larger models are ranked on fewer images each


def rank_sites(
    graph: Graph,
    plan: QuantizationPlan,
    pixels: Sequence[npt.NDArray[np.generic]],
    progress: Progress = ignore_progress,
) -> dict[str, float]:
    """SQNR in dB at the logits by site, where the site alone is quantised; on the calibration images ``pixels``."""
    images = pixels[: max(4, _RUNS // max(1, len(plan.sites)))]
    reference = run_graph(graph, images)
    damage = {}
    for index, name in enumerate(plan.sites):
        progress("sensitivity", index, len(plan.sites))
        noise = measure_noise(graph, plan, [name], images, reference)
        damage[name] = round(to_decibels(noise), 2)
    progress("sensitivity", len(plan.sites), len(plan.sites))
    return damage


def measure_noise(
    graph: Graph,
    plan: QuantizationPlan,
    sites: Collection[str],
    pixels: Sequence[npt.NDArray[np.generic]],
    reference: npt.NDArray[np.float32],
) -> float:
    """Noise over signal at the logits with some sites quantised."""
    answer = run_graph(apply_plan(graph, plan, sites), pixels)
    return float(np.square(answer - reference, dtype=np.float64).sum() / np.square(reference, dtype=np.float64).sum())


def choose_products(
    graph: Graph,
    plan: QuantizationPlan,
    pixels: Sequence[npt.NDArray[np.generic]],
    damage: Mapping[str, float],
    share: float,
    pins: Mapping[str, str],
) -> tuple[str, ...]:
    """Products of probabilities and values that are better left float.

    The least harmful are taken as INT8 while their noise together stays below ``share`` of that of all other sites.
    """
    contexts = [name for name in plan.sites if name.endswith("/context") and name not in pins]
    others = [name for name in plan.sites if name not in contexts]
    room = share * measure_noise(graph, plan, others, pixels, run_graph(graph, pixels))
    dropped = []
    for name in sorted(contexts, key=lambda n: -damage[n]):
        noise = 10 ** (-damage[name] / 10)
        if noise <= room:
            room -= noise
        else:
            dropped.append(name)
    return tuple(dropped)


def choose_fallback(
    graph: Graph,
    plan: QuantizationPlan,
    sites: Collection[str],
    pixels: Sequence[npt.NDArray[np.generic]],
    damage: Mapping[str, float],
    share: float,
    pins: Mapping[str, str],
) -> tuple[str, ...]:
    """Of the sites to be quantised, those that are better left float: few that make much of the noise.

    Args:
        graph: The float graph.
        plan: Of it.
        sites: What would be quantised.
        pixels: Calibration images.
        damage: SQNR in dB of each site alone.
        share: Of the noise of all sites together; a site that alone makes more stays float.
        pins: Sites that the recipe decides.

    Returns:
        At most one site in twenty, the worst first; none where all sites together keep 30 dB.
    """
    if not sites:
        return ()
    noise = measure_noise(graph, plan, sites, pixels, run_graph(graph, pixels))
    if to_decibels(noise) >= _GOOD_DB:
        return ()
    worst = sorted((n for n in sites if n not in pins), key=lambda n: damage[n])
    heavy = [n for n in worst if 10 ** (-damage[n] / 10) > share * noise]
    return tuple(heavy[: int(_LARGEST_FALLBACK * len(sites))])


def run_graph(graph: Graph, pixels: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.float32]:
    """Logits ``(N, K)`` in ONNX Runtime."""
    runner = SegmentRunner(graph)
    return np.concatenate([runner.run(image)[0] for image in pixels])


def to_decibels(noise: float) -> float:
    """``−10·log10``; 200 for none, as JSON knows no infinity."""
    return min(200.0, -10 * math.log10(noise)) if noise > 0 else 200.0
