"""Damage by site against runs of the graph, and the choice of what stays float."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from edgevit.core.quantization import Quantization
from edgevit.graph.graph import Graph
from edgevit.quantize.grid import Grid
from edgevit.quantize.plan import QuantizationPlan, apply_plan
from edgevit.quantize.quantize import match_sites, plan_quantization
from edgevit.quantize.sensitivity import (
    choose_float,
    estimate_costs,
    find_group_pattern,
    limit_choice,
    rank_groups,
    rank_sites,
    to_decibels,
)
from edgevit.quantize.site_noise import measure_sites
from tests.support.quantized import fit_sites
from tests.support.small_graphs import CONFIGS, make_graph, make_pixels, run_graph

Planned = tuple[Graph, QuantizationPlan]


@pytest.fixture(scope="module")
def planned() -> Planned:
    return fit_sites(make_graph("vit"), make_pixels("vit"), Quantization(products="both"), "openvino")[:2]


@pytest.fixture(scope="module")
def damage(planned: Planned) -> dict[str, float]:
    return rank_sites(*planned, make_pixels("vit"))


def measure_noise(planned: Planned, sites: list[str], count: int = 8) -> float:
    base, plan = planned
    images = make_pixels("vit", count)
    wanted, found = run_graph(base, images)[0], run_graph(apply_plan(base, plan, sites), images)[0]
    return float(np.sum((found - wanted) ** 2.0) / np.sum(wanted**2.0))


def test_rank_sites_gives_the_ratio_of_signal_to_noise_with_each_site_alone(planned: Planned) -> None:
    found = rank_sites(*planned, make_pixels("vit", 3))  # with more, most sites are judged by the first three alone
    assert list(found) == list(planned[1].sites)
    for name in ("blocks.0.attn.q", "blocks.1.mlp.fc2", "head"):
        assert found[name] == pytest.approx(-10 * np.log10(measure_noise(planned, [name], 3)), abs=0.05)


@pytest.mark.parametrize("name", ["blocks.0.mlp.fc1", "blocks.1.attn/scores", "head"])
def test_rank_sites_when_a_grid_is_coarser_finds_more_damage(
    planned: Planned, damage: dict[str, float], name: str
) -> None:
    base, plan = planned
    site = plan.sites[name]
    grids = tuple(Grid(grid.scale * 16, grid.zero_point, grid.low_code, grid.high_code) for grid in site.grids)
    coarse = QuantizationPlan({name: dataclasses.replace(site, grids=grids)}, plan.at)
    # A step 16 times as wide has 256 times the noise, 24 dB; weights add some of their own to the finer one.
    assert rank_sites(base, coarse, make_pixels("vit"))[name] < damage[name] - 6


def test_rank_sites_measures_the_worst_again_on_all_images(planned: Planned) -> None:
    base, plan = planned
    images = make_pixels("vit", 9)
    few, all_ = (measure_sites(base, plan, list(plan.sites), images[:n]) for n in (3, 9))
    ranked = rank_sites(base, plan, images)
    worst = sorted(few, key=lambda name: -few[name])[: math.ceil(0.25 * len(few))]
    for name, found in ranked.items():
        assert found == pytest.approx(to_decibels((all_ if name in worst else few)[name]), abs=0.01)


def test_choose_float_takes_the_sites_with_most_noise_for_their_cost_until_it_is_quiet_enough(
    planned: Planned, damage: dict[str, float]
) -> None:
    base, plan = planned
    images = make_pixels("vit")
    costs = estimate_costs(base, list(plan.sites))
    order = sorted(damage, key=lambda name: -(10 ** (-damage[name] / 10)) / costs[name])
    start = -10 * np.log10(measure_noise(planned, list(plan.sites)))
    chosen = choose_float(base, plan, images, damage, sqnr_db=start + 3, share=1.0, pins={})
    assert 0 < len(chosen) < len(plan.sites)
    assert list(chosen) == order[: len(chosen)]
    left = measure_noise(planned, [name for name in plan.sites if name not in chosen])
    assert -10 * np.log10(left) >= start + 3 - 0.3  # ONNX Runtime with and without its own rewrites
    pinned = choose_float(base, plan, images, damage, sqnr_db=start + 3, share=1.0, pins={order[0]: "int8"})
    assert order[0] not in pinned


def test_choose_float_takes_nothing_when_it_is_quiet_or_may_not(planned: Planned, damage: dict[str, float]) -> None:
    base, plan = planned
    images = make_pixels("vit")
    assert choose_float(base, plan, images, damage, sqnr_db=-20, share=1.0, pins={}) == ()
    assert choose_float(base, plan, images, damage, sqnr_db=100, share=0.0, pins={}) == ()


def test_choose_float_keeps_within_its_share_of_the_cost(planned: Planned, damage: dict[str, float]) -> None:
    base, plan = planned
    chosen = choose_float(base, plan, make_pixels("vit"), damage, sqnr_db=100, share=0.2, pins={})
    costs = estimate_costs(base, list(plan.sites))
    assert 0 < sum(costs[name] for name in chosen) <= 0.2 * sum(costs.values())


def test_limit_choice_stops_where_decibels_cost_more_than_they_are_worth() -> None:
    noises = [10**-3.2, 10**-3.4, 10**-3.45, 10**-3.5]  # 32, 34, 34.5 and 35 dB
    assert limit_choice(noises, [0.02, 0.04, 0.04], gain=0.5) == 1  # 2 dB for 2 %, then 0.5 dB for 4 %
    assert limit_choice(noises, [0.02, 0.04, 0.04], gain=0.1) == 3
    assert limit_choice(noises, [0.02, 0.001, 0.001], gain=0.5) == 3
    assert limit_choice(noises, [0.2, 0.1, 0.1], gain=0.5) == 0
    assert limit_choice(noises, [0.2, 0.1, 0.1], gain=0.0) == 3


def test_limit_choice_goes_at_least_to_the_floor() -> None:
    noises = [10**-2.4, 10**-2.9, 10**-3.2, 10**-3.21]
    assert limit_choice(noises, [0.1, 0.1, 0.1], gain=0.5) == 2
    assert limit_choice(noises[:2], [0.1], gain=0.5) == 1  # which does not reach it


def test_choose_float_keeps_only_what_pays(planned: Planned, damage: dict[str, float]) -> None:
    base, plan = planned
    images = make_pixels("vit")
    costs = estimate_costs(base, list(plan.sites))
    notes: list[str] = []
    every = choose_float(base, plan, images, damage, sqnr_db=60, share=0.6, pins={}, notes=notes)
    assert not notes
    chosen = choose_float(base, plan, images, damage, sqnr_db=60, share=0.6, pins={}, gain=0.2, notes=notes)
    assert list(chosen) == list(every)[: len(chosen)]
    assert 0 < len(chosen) < len(every)
    assert "(60 are wanted)" in notes[0]

    def decibels(floats: tuple[str, ...]) -> float:
        return to_decibels(measure_noise(planned, [name for name in plan.sites if name not in floats]))

    # By measurements of their own: what was kept has paid, and the rest would not have.
    rest = 100 * sum(costs[name] for name in every if name not in chosen) / sum(costs.values())
    spent = 100 * sum(costs[name] for name in chosen) / sum(costs.values())
    assert decibels(chosen) - decibels(()) >= 0.2 * spent - 0.5
    assert decibels(every) - decibels(chosen) <= 0.2 * rest + 0.5


@pytest.mark.parametrize("sqnr_db", [27.5, 31.5])
def test_choose_float_spends_what_it_takes_up_to_what_embeddings_need(
    planned: Planned, damage: dict[str, float], sqnr_db: float
) -> None:
    base, plan = planned
    found = [
        choose_float(base, plan, make_pixels("vit"), damage, sqnr_db=sqnr_db, share=1.0, pins={}, gain=gain)
        for gain in (0.0, 100.0)
    ]
    assert found[0] == found[1]


def test_sites_count_the_multiplications_of_linears_and_products() -> None:
    config = CONFIGS["vit"]
    tokens = config.grid[0] * config.grid[1] + 1
    wanted = {
        "blocks.0.attn.q": tokens * config.width**2,
        "blocks.0.mlp.fc1": tokens * config.width * config.mlp_width,
        "blocks.0.attn/scores": tokens**2 * config.width,
        "blocks.0.attn/context": tokens**2 * config.width,
        "blocks.1.attn/context": tokens * config.width,  # the class token alone asks in the last block
        "head": config.width * config.classes,
    }
    assert {site.name: site.macs for site in make_graph("vit").sites() if site.name in wanted} == wanted


def test_estimate_costs_counts_the_weights_of_a_linear_of_one_token() -> None:
    config = CONFIGS["vit"]
    sites = ("head", "blocks.0.mlp.fc1", "blocks.0.attn/scores")
    counts = {site.name: site.macs for site in make_graph("vit").sites()}
    costs = estimate_costs(make_graph("vit"), sites)
    assert costs["head"] > 30 * counts["head"]
    assert costs["blocks.0.mlp.fc1"] - counts["blocks.0.mlp.fc1"] == 32 * config.width * config.mlp_width
    assert costs["blocks.0.attn/scores"] == 1.5 * counts["blocks.0.attn/scores"]


def test_to_decibels_of_no_noise_is_finite() -> None:
    assert to_decibels(0.0) == to_decibels(1e-40) == 200.0
    assert to_decibels(0.01) == pytest.approx(20)
    assert to_decibels(10.0) == pytest.approx(-10)


def test_plan_quantization_leaves_float_what_choose_float_names() -> None:
    recipe = Quantization(sqnr_db=100, float_share=0.1, float_gain=0, products="both")
    record = plan_quantization(make_graph("vit"), make_pixels("vit"), recipe, "openvino")[2]
    assert record.fallback
    assert {s.name for s in record.sites if s.precision == "float"} >= set(record.fallback)
    assert all(s.reason for s in record.sites if s.precision == "float")


def test_rank_groups_gives_the_noise_of_all_sites_of_a_pattern_together(planned: Planned) -> None:
    found = rank_groups(*planned, make_pixels("vit"))
    sites = list(planned[1].sites)
    assert set(found) == {find_group_pattern(name) for name in sites} - {"patch_embed.proj", "head"}
    for pattern in ("blocks.*.mlp.fc2", "blocks.*.attn/scores"):
        members = [name for name in sites if find_group_pattern(name) == pattern]
        assert len(members) == CONFIGS["vit"].depth
        assert found[pattern] == pytest.approx(-10 * np.log10(measure_noise(planned, members)), abs=0.05)


def test_group_patterns_pin_what_they_name_in_a_recipe() -> None:
    names = ["layers.0.blocks.1.mlp.fc2", "layers.1.blocks.0.mlp.fc2", "layers.1.downsample.reduction", "head"]
    patterns = [find_group_pattern(name) for name in names]
    assert patterns == ["layers.*.blocks.*.mlp.fc2"] * 2 + ["layers.*.downsample.reduction", "head"]
    assert match_sites(names, {patterns[0]: "float"}) == dict.fromkeys(names[:2], "float")
