"""Damage by site against runs of the graph, and the choice of products within its share."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgevit.graph import Graph
from edgevit.plan import QuantizationPlan, apply_plan
from edgevit.quantization import Quantization
from edgevit.quantize import plan_quantization
from edgevit.ranges import Grid
from edgevit.sensitivity import choose_fallback, choose_products, rank_sites, to_decibels
from tests.small_graphs import make_graph, make_pixels, run_graph

Planned = tuple[Graph, QuantizationPlan]
CONTEXTS = ["blocks.0.attn/context", "blocks.1.attn/context"]


@pytest.fixture(scope="module")
def planned() -> Planned:
    return plan_quantization(make_graph("vit"), make_pixels("vit"), Quantization(products="both"), "openvino")[:2]


@pytest.fixture(scope="module")
def damage(planned: Planned) -> dict[str, float]:
    return rank_sites(*planned, make_pixels("vit"))


def measure_noise(planned: Planned, sites: list[str]) -> float:
    base, plan = planned
    images = make_pixels("vit")
    wanted, found = run_graph(base, images)[0], run_graph(apply_plan(base, plan, sites), images)[0]
    return float(np.sum((found - wanted) ** 2.0) / np.sum(wanted**2.0))


def test_rank_sites_gives_the_ratio_of_signal_to_noise_with_each_site_alone(
    planned: Planned, damage: dict[str, float]
) -> None:
    assert list(damage) == list(planned[1].sites)
    for name in ("blocks.0.attn.q", "blocks.1.mlp.fc2", "head"):
        assert damage[name] == pytest.approx(-10 * np.log10(measure_noise(planned, [name])), abs=0.3)


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


def test_choose_products_keeps_the_noise_within_its_share(planned: Planned, damage: dict[str, float]) -> None:
    base, plan = planned
    others = measure_noise(planned, [name for name in plan.sites if name not in CONTEXTS])
    noise = {name: measure_noise(planned, [name]) for name in CONTEXTS}
    best = min(CONTEXTS, key=noise.__getitem__)
    images = make_pixels("vit")
    # Room for the better one, with a tenth to spare, and not for both.
    share = 1.1 * noise[best] / others
    assert choose_products(base, plan, images, damage, share, {}) == tuple(n for n in CONTEXTS if n != best)
    # Room for either, and not for both: the better one is taken, and what it uses is gone.
    either = 1.05 * max(noise.values())
    assert either < sum(noise.values())
    assert choose_products(base, plan, images, damage, either / others, {}) == tuple(n for n in CONTEXTS if n != best)
    assert sorted(choose_products(base, plan, images, damage, 0.0, {})) == CONTEXTS
    assert choose_products(base, plan, images, damage, 1.1 * sum(noise.values()) / others, {}) == ()


def test_choose_products_leaves_pinned_products_to_the_recipe(planned: Planned, damage: dict[str, float]) -> None:
    base, plan = planned
    pins = {CONTEXTS[0]: "int8"}
    assert choose_products(base, plan, make_pixels("vit"), damage, 0.0, pins) == (CONTEXTS[1],)


def test_to_decibels_of_no_noise_is_finite() -> None:
    assert to_decibels(0.0) == to_decibels(1e-40) == 200.0
    assert to_decibels(0.01) == pytest.approx(20)
    assert to_decibels(10.0) == pytest.approx(-10)


def test_choose_fallback_names_the_few_sites_that_make_most_of_the_noise(
    planned: Planned, damage: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, plan = planned
    sites = [f"site{i}" for i in range(40)]
    made = dict.fromkeys(sites, 40.0) | {"site3": 21.0, "site7": 22.0, "site9": 23.0, "site11": 29.0}
    for total, pins, wanted in (
        (10**-1.8, {}, ("site3", "site7")),  # two are one in twenty of forty, though site9 is as heavy
        (10**-1.8, {"site3": "int8"}, ("site7", "site9")),
        (10**-1.0, {}, ()),  # each is below a tenth of the noise
        (10**-3.1, {}, ()),  # 31 dB are good enough
    ):
        monkeypatch.setattr("edgevit.sensitivity.measure_noise", lambda *args, total=total: total)
        assert choose_fallback(base, plan, sites, make_pixels("vit"), made, 0.1, pins) == wanted


def test_plan_quantization_when_one_site_is_ruined_leaves_it_float(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgevit.sensitivity._GOOD_DB", 1000.0)
    monkeypatch.setattr("edgevit.sensitivity._LARGEST_FALLBACK", 0.1)
    record = plan_quantization(make_graph("vit"), make_pixels("vit"), Quantization(site_share=0.01), "openvino")[2]
    assert record.fallback
    assert {s.name for s in record.sites if s.precision == "float"} >= set(record.fallback)
    assert record.fallback[0] == next(
        s.name for s in record.worst if s.precision == "float" and "context" not in s.name
    )
