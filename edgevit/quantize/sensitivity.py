"""How much damage each site does: SQNR at the logits where only it is quantised; and which sites are better left float.

Of a model with several outputs the noise over signal is the mean of that of each: all levels of features count alike.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Collection, Mapping, Sequence

from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.quantization import SQNR_DB_OF_EMBEDDINGS
from edgevit.graph.graph import Graph
from edgevit.quantize.carried_noise import is_large, limit_images, measure_parts
from edgevit.quantize.plan import QuantizationPlan
from edgevit.quantize.site_noise import Pixels, hold_graph, measure_noise, measure_sites, run_held

_FIRST_IMAGES = 3
_MOST_IMAGES = 16
_WORST_SHARE = 0.25  # of the sites, ranked again on more images: noise varies with the image
_GROUP_IMAGES = 8
_ROUNDS = 4
_CHOICE, _GROUPS = "choose float sites", "rank groups"
# What float costs over INT8, in multiplications, as timed in OpenVINO with DeiT-Tiny on two cores with AVX512-VNNI:
_WEIGHT_COST = 32  # a Linear of few tokens waits for its weights: 16 on an AMD EPYC, 64 on an Intel Xeon
_PRODUCT_COST = 1.5  # around a product of activations the tensors grow too


def rank_sites(
    graph: Graph, plan: QuantizationPlan, pixels: Pixels, progress: Progress = ignore_progress
) -> dict[str, float]:
    """SQNR in dB at the logits by site, where only that site is quantised.

    Every site is measured on a few calibration images, and those that do most damage again on more of them. Where
    that would take very long, the parts of a whole model are run by themselves (:mod:`edgevit.quantize.carried_noise`).
    """
    large = is_large(graph, plan)
    measure = measure_parts if large else measure_sites
    pixels = pixels[: limit_images(graph, _MOST_IMAGES) if large else _MOST_IMAGES]
    rounds = 1 + (len(pixels) > _FIRST_IMAGES)

    def tell(before: int, stage: str, done: int, total: int) -> None:
        progress(stage, before * total + done, rounds * total)

    few = pixels[:_FIRST_IMAGES]
    first = measure(graph, plan, list(plan.sites), few, functools.partial(tell, 0))
    worst = sorted(first, key=lambda name: -first[name])[: math.ceil(_WORST_SHARE * len(first))]
    if rounds > 1:
        first.update(measure(graph, plan, worst, pixels, functools.partial(tell, 1)))
    return {name: round(to_decibels(noise), 2) for name, noise in first.items()}


def rank_groups(
    graph: Graph, plan: QuantizationPlan, pixels: Pixels, progress: Progress = ignore_progress
) -> dict[str, float]:
    """SQNR in dB at the logits by group, where all sites of the group are quantised and no others.

    A group is what stands at the same place of every block, by the pattern that pins it in a recipe
    (``blocks.*.mlp.fc2``); a site without its like is none. What sites do together is not the sum of what each does.
    Only the first few calibration images are used.
    """
    groups: dict[str, list[str]] = {}
    for name in plan.sites:
        groups.setdefault(find_group_pattern(name), []).append(name)
    groups = {pattern: names for pattern, names in groups.items() if len(names) > 1}
    # Nothing is decided by it, and each group runs the whole graph.
    pixels = pixels[: limit_images(graph, _GROUP_IMAGES) // 2 if is_large(graph, plan) else _GROUP_IMAGES]
    held = hold_graph(graph, pixels)
    reference = run_held(held) if groups else []
    found = {}
    for index, (pattern, names) in enumerate(groups.items()):
        progress(_GROUPS, index, len(groups))
        found[pattern] = round(to_decibels(measure_noise(held, plan, names, reference)), 2)
    progress(_GROUPS, len(groups), len(groups))
    return found


def find_group_pattern(name: str) -> str:
    """``blocks.3.mlp.fc2`` to ``blocks.*.mlp.fc2``: a number between dots is a place, one behind a letter is not."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", name)


def choose_float(
    graph: Graph,
    plan: QuantizationPlan,
    pixels: Pixels,
    damage: Mapping[str, float],
    *,
    sqnr_db: float,
    share: float,
    pins: Mapping[str, str],
    gain: float = 0.0,
    notes: list[str] | None = None,
    progress: Progress = ignore_progress,
) -> tuple[str, ...]:
    """Leave float, until the logits keep ``sqnr_db``, the sites that make most noise for what quantising saves there.

    At most ``share`` of the costs of all sites (:func:`estimate_costs`) is float then. Beyond 31.5 dB a percent of them
    has to buy ``gain`` decibels, or the sites that come last stay quantised (:func:`limit_choice`). Sites that the
    recipe ``pins`` are left alone; ``damage`` is the SQNR in dB of each site alone; ``notes`` are told where decibels
    were too dear. Gives the sites in the order of the choice.
    """
    if is_large(graph, plan):
        pixels = pixels[: limit_images(graph, len(pixels))]
    costs = estimate_costs(graph, list(plan.sites))
    room = share * sum(costs.values())
    alone = {name: 10 ** (-damage[name] / 10) for name in plan.sites if name in damage}
    order = sorted((n for n in alone if n not in pins), key=lambda n: -alone[n] / costs[n])
    wanted = 10 ** (-sqnr_db / 10)
    held = hold_graph(graph, pixels)
    reference = run_held(held)
    chosen: list[str] = []
    progress(_CHOICE, 0, _ROUNDS)
    first = noise = measure_noise(held, plan, list(plan.sites), reference)
    for done in range(_ROUNDS):
        progress(_CHOICE, done, _ROUNDS)
        if noise <= wanted:
            break
        # What the sites do together is not the sum of what each does alone; the ratio is known from the measurement.
        ratio = noise / max(1e-30, sum(v for n, v in alone.items() if n not in chosen))
        expected, before = noise, len(chosen)
        for name in order:
            if expected <= wanted:
                break
            if name not in chosen and costs[name] <= room:
                chosen.append(name)
                room -= costs[name]
                expected -= ratio * alone[name]
        if len(chosen) == before:
            break
        noise = measure_noise(held, plan, [n for n in plan.sites if n not in chosen], reference)
    progress(_CHOICE, _ROUNDS, _ROUNDS)
    if gain and sqnr_db > SQNR_DB_OF_EMBEDDINGS:
        shares, gone = [costs[name] / sum(costs.values()) for name in chosen], sum(alone[name] for name in chosen)
        noises = [first]
        for name in chosen:
            noises.append(noises[-1] + (noise - first) * alone[name] / max(1e-30, gone))
        count = limit_choice(noises, shares, gain)
        if notes is not None and count < len(chosen):
            notes.append(
                f"{100 * sum(shares):.1f} % of the arithmetic in float would give {to_decibels(noise):.1f} dB "
                f"({sqnr_db:g} are wanted); {100 * sum(shares[:count]):.1f} % are float, for about "
                f"{to_decibels(noises[count]):.1f} dB, as the others would take more time than they are worth"
            )
        chosen = chosen[:count]
    return tuple(chosen)


def limit_choice(noises: Sequence[float], shares: Sequence[float], gain: float) -> int:
    """How many of the sites that were chosen pay.

    Args:
        noises: Noise over signal with none of them in float, with the first, with the first two …
        shares: Of each site of the arithmetic of all.
        gain: Decibels that a percent of the arithmetic is worth.

    Returns:
        With how many the decibels, less what their time is worth, are most: of those that reach 31.5 dB, up to which
        every decibel pays. All where none do.
    """
    decibels = [to_decibels(noise) for noise in noises]
    spent = [100 * sum(shares[:count]) for count in range(len(noises))]
    enough = next((count for count, found in enumerate(decibels) if found >= SQNR_DB_OF_EMBEDDINGS), len(shares))
    return max(range(enough, len(noises)), key=lambda count: decibels[count] - gain * spent[count])


def estimate_costs(graph: Graph, sites: Collection[str]) -> dict[str, float]:
    """By site: latency that float costs over INT8, in multiplications of a large Linear."""
    costs = {}
    for site in graph.sites():
        if site.name in sites:
            shape = site.weight_shape
            costs[site.name] = (
                site.macs * _PRODUCT_COST if shape is None else site.macs + _WEIGHT_COST * math.prod(shape)
            )
    return costs


def to_decibels(noise: float) -> float:
    """``−10·log10``; 200 for none, as JSON knows no infinity."""
    return min(200.0, -10 * math.log10(noise)) if noise > 0 else 200.0
