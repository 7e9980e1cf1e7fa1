"""Damage in whole models, of which encoder and decoder are run by themselves, against runs of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from edgevit.core.quantization import Quantization
from edgevit.graph.carried import CARRIED
from edgevit.graph.graph import Graph
from edgevit.quantize import carried_noise
from edgevit.quantize.carried_noise import is_large, limit_images, measure_parts
from edgevit.quantize.plan import QuantizationPlan
from edgevit.quantize.sensitivity import choose_float, rank_groups, rank_sites, to_decibels
from edgevit.quantize.site_noise import hold_graph, measure_noise, measure_sites, run_held
from tests.support.quantized import fit_sites
from tests.support.small_graphs import make_graph
from tests.support.small_models import VIT, make_images
from tests.support.whole_graphs import make_whole_graph

Planned = tuple[Graph, QuantizationPlan]
IMAGES = [image[None] for image in make_images(VIT, 8).numpy()]


def fit(levels: tuple[int, ...]) -> Planned:
    return fit_sites(make_whole_graph(levels), IMAGES, Quantization(products="both"), "openvino")[:2]


@pytest.fixture(scope="module", params=[(2,), (0, 2)], ids=["one tap", "two taps"])
def planned(request: pytest.FixtureRequest) -> Planned:
    return fit(request.param)


@pytest.fixture(scope="module")
def small() -> Planned:
    return fit((0, 2))


@pytest.fixture
def large(small: Planned, monkeypatch: pytest.MonkeyPatch) -> Planned:
    monkeypatch.setattr(carried_noise, "_LARGE_WORK", 0)
    return small


def test_parts_rank_sites_as_the_whole_does(planned: Planned) -> None:
    base, plan = planned
    sites = list(plan.sites)
    whole, parts = measure_sites(base, plan, sites, IMAGES), measure_parts(base, plan, sites, IMAGES)
    assert list(parts) == sites
    carried = [name for name in sites if name.startswith(CARRIED)]
    assert len(carried) >= 3  # reached from either tap, and by one another
    for name in carried:
        assert to_decibels(parts[name]) == pytest.approx(to_decibels(whole[name]), abs=0.05)
    encoder = [name for name in sites if name not in carried]
    for names in (sites, encoder):
        assert spearmanr([whole[n] for n in names], [parts[n] for n in names]).statistic > 0.8
    levels = [to_decibels(parts[n]) - to_decibels(whole[n]) for n in encoder]
    assert abs(float(np.median(levels))) < 2  # on one scale with the carried sites
    held = hold_graph(base, IMAGES)
    reference = run_held(held)
    target = to_decibels(measure_noise(held, plan, sites, reference)) + 3
    quiet = []
    for noise in (whole, parts):
        damage = {name: to_decibels(value) for name, value in noise.items()}
        chosen = choose_float(base, plan, IMAGES, damage, sqnr_db=target, share=1.0, pins={})
        assert chosen
        left = [name for name in sites if name not in chosen]
        quiet.append(to_decibels(measure_noise(held, plan, left, reference)))
    assert quiet[1] == pytest.approx(quiet[0], abs=0.5)


@pytest.mark.parametrize("kind", ["carried", "encoder"])
def test_parts_measure_only_what_is_asked_for(small: Planned, kind: str) -> None:
    base, plan = small
    wanted = [name for name in plan.sites if name.startswith(CARRIED) == (kind == "carried")][:2]
    found, every = (measure_parts(base, plan, names, IMAGES[:2]) for names in (wanted, list(plan.sites)))
    assert found == {name: pytest.approx(every[name]) for name in wanted}


def test_small_models_are_ranked_as_a_whole(small: Planned) -> None:
    base, plan = small
    assert not is_large(base, plan)
    whole = measure_sites(base, plan, list(plan.sites), IMAGES[:3])
    assert rank_sites(base, plan, IMAGES[:3]) == {name: round(to_decibels(noise), 2) for name, noise in whole.items()}


def test_an_encoder_by_itself_is_never_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carried_noise, "_LARGE_WORK", 0)
    graph = make_graph("vit")
    plan = QuantizationPlan({site.name: None for site in graph.sites()})
    assert not is_large(graph, plan)


def test_large_is_what_sites_images_and_multiplications_make(small: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    base, plan = small
    macs = {site.name: site.macs for site in base.sites()}
    monkeypatch.setattr(carried_noise, "_LARGE_WORK", 7 * len(plan.sites) * sum(macs.values()))
    assert not is_large(base, plan)  # a site runs what follows it, not all
    monkeypatch.setattr(carried_noise, "_LARGE_WORK", 7 * len(plan.sites) * sum(macs.values()) / 4)
    assert is_large(base, plan)
    assert not is_large(base, QuantizationPlan())


def test_large_models_are_ranked_by_parts(large: Planned) -> None:
    base, plan = large
    parts = measure_parts(base, plan, list(plan.sites), IMAGES[:3])
    assert rank_sites(base, plan, IMAGES[:3]) == {name: round(to_decibels(noise), 2) for name, noise in parts.items()}


def test_large_models_are_judged_on_fewer_images(large: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    base, plan = large
    macs = sum(site.macs for site in base.sites())
    for images, count in ((0, 4), (5, 5), (100, 8)):
        monkeypatch.setattr(carried_noise, "_IMAGES_WORK", images * macs)
        assert limit_images(base, 8) == count
        assert limit_images(base, 2) == 2
    monkeypatch.setattr(carried_noise, "_IMAGES_WORK", 0)
    assert rank_groups(base, plan, IMAGES) == rank_groups(base, plan, IMAGES[:2])
    damage = rank_sites(base, plan, IMAGES)
    assert damage == rank_sites(base, plan, IMAGES[:4])
    many, few = (
        choose_float(base, plan, images, damage, sqnr_db=45, share=0.5, pins={}) for images in (IMAGES, IMAGES[:4])
    )
    assert many == few


def test_progress_of_parts_goes_to_its_end(large: Planned) -> None:
    base, plan = large
    steps: list[tuple[str, int, int]] = []
    rank_sites(base, plan, IMAGES, lambda *step: steps.append(step))
    assert {stage for stage, _, _ in steps} == {"sensitivity"}
    assert len({total for _, _, total in steps}) == 1
    done = [count for _, count, _ in steps]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == steps[-1][2]
    assert len(set(done)) > 8
