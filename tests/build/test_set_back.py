"""The search for the fewest sites to set back: monotone and noisy evaluators, what is left alone, what is recorded."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.build.set_back import (
    LARGEST_SHARE,
    MOST_TRIALS,
    REASON,
    STAGE,
    count_trials,
    find_fewest,
    mark_float,
    pin_set_back,
    rank_harmful,
    search_set_back,
)
from edgevit.core.quantization import Quantization, QuantizationRecord, SetBack, SiteRecord
from edgevit.core.recipe import Recipe
from edgevit.core.report.report import Accuracy
from edgevit.core.target import Budget

IMAGES = 200


def make_figures(drop: float | None, agreement: int = IMAGES) -> Accuracy:
    return Accuracy(IMAGES, drop is not None, agreement, 0.9, 1.0, drop_points=drop)


def make_record(count: int = 12) -> QuantizationRecord:
    """Site ``s3`` does more harm than ``s4``, and all do in a mixed order."""
    sites = [SiteRecord(f"s{i}", "int8", "", 20.0 + i) for i in range(count)]
    return QuantizationRecord(IMAGES, sites=tuple(sites[1::2] + sites[0::2]), fallback=("before",))


class Judge:
    """Drops of top-1 by the number of sites set back."""

    def __init__(self, drops):
        self.drops, self.asked = drops, []

    def __call__(self, sites):
        self.asked.append(sites)
        drop = self.drops[len(sites)]
        return None if drop is None else make_figures(drop)


@given(limit=st.integers(1, 64), needed=st.integers(1, 80))
def test_monotone_budget_is_met_by_the_fewest(limit, needed):
    asked: list[int] = []

    def meets(count: int) -> bool:
        asked.append(count)
        return count >= needed

    assert find_fewest(meets, limit) == (needed if needed <= limit else None)
    assert len(asked) == len(set(asked)) <= count_trials(limit) <= MOST_TRIALS
    assert max(asked) <= limit
    assert max(asked) < 2 * needed, "no more sites than twice what is needed are tried"


@given(limit=st.integers(1, 300), seed=st.integers(0, 10_000), share=st.floats(0, 1))
def test_noisy_budget_is_met_by_the_count_that_is_given(limit, seed, share):
    generator = np.random.default_rng(seed)
    answers = {count: bool(generator.random() < share) for count in range(1, limit + 1)}
    asked: list[int] = []

    def meets(count: int) -> bool:
        asked.append(count)
        return answers[count]

    fewest = find_fewest(meets, limit)
    assert len(asked) == len(set(asked)) <= count_trials(limit) <= MOST_TRIALS
    met = [count for count in asked if answers[count]]
    assert fewest == (min(met) if met else None)


def test_no_site_to_set_back_asks_nothing():
    assert find_fewest(lambda count: pytest.fail("asked"), 0) is None


def test_trials_that_run_out_leave_a_count_that_met_the_budget():
    assert find_fewest(lambda count: count >= 33, 64, trials=8) == 48
    assert find_fewest(lambda count: count >= 33, 64, trials=6) is None


def test_worst_sites_go_first_and_what_that_gained_is_said():
    seen: list[tuple[str, int, int]] = []
    judge = Judge({1: 3.0, 2: 1.0, 3: 0.5, 4: 0.0})
    result = search_set_back(
        make_record(), Recipe(), Budget(), make_figures(5.0), judge, lambda *step: seen.append(step)
    )
    assert result == SetBack(("s0", "s1", "s2"), 12, 4, 4, IMAGES, 5.0, 0.5, True)
    assert judge.asked == [("s0",), ("s0", "s1"), ("s0", "s1", "s2", "s3"), ("s0", "s1", "s2")]
    assert {stage for stage, *_ in seen} == {STAGE}
    assert seen[-1][1:] == (4, 4)
    assert all(done <= total for _, done, total in seen)


def test_flip_of_an_image_back_over_the_budget_is_not_accepted():
    """Two sites meet it and three do not: the three are not taken for as good."""
    result = search_set_back(
        make_record(), Recipe(), Budget(max_drop_points=0), make_figures(2.0), Judge({1: 1.0, 2: 0.5, 4: -0.5, 3: 0.5})
    )
    assert len(result.sites) == 4
    assert result.after == -0.5


@pytest.mark.parametrize("count", [1, 2, 3, 12, 26])
def test_search_ends_at_a_third_of_the_sites(count):
    limit = max(1, math.floor(LARGEST_SHARE * count))
    judge = Judge({k: 4.0 - 0.1 * k for k in range(count + 1)})
    result = search_set_back(make_record(count), Recipe(), Budget(), make_figures(4.0), judge)
    assert (result.sites, result.tried) == ((), limit)
    assert result.after == 4.0 - 0.1 * limit
    assert max(len(sites) for sites in judge.asked) == limit


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_sites_that_were_float_not_ranked_or_pinned_are_not_set_back(precision):
    sites = (
        SiteRecord("pinned", precision, "", 1.0),
        SiteRecord("float", "float", "", 2.0),
        SiteRecord("blind", precision),
        SiteRecord("mild", precision, "", 40.0),
        SiteRecord("worst", precision, "", 3.0),
    )
    recipe = Recipe(quantization=Quantization(sites={"pin*": "int8"}))
    assert rank_harmful(QuantizationRecord(1, sites=sites), recipe) == ("worst", "mild")


def test_nothing_to_set_back_leaves_the_figures_as_they_were():
    record = QuantizationRecord(1, sites=(SiteRecord("a", "int8"), SiteRecord("b", "int8")))
    result = search_set_back(record, Recipe(), Budget(), make_figures(4.0), Judge({}))
    assert result == SetBack((), 2, 0, 0, IMAGES, 4.0, 4.0, True)


def test_set_that_does_not_compile_is_a_miss():
    result = search_set_back(make_record(), Recipe(), Budget(), make_figures(4.0), Judge({1: None, 2: 0.0}))
    assert (result.sites, result.trials) == (("s0", "s1"), 2)


def test_unlabelled_images_are_judged_by_agreement():
    def judge(sites):
        return make_figures(None, 190 + 5 * len(sites))

    result = search_set_back(make_record(), Recipe(), Budget(), make_figures(None, 190), judge)
    assert (len(result.sites), result.before, result.after, result.labelled) == (2, 95.0, 100.0, False)


def test_marked_record_says_why():
    record = mark_float(make_record(3), ("s1",))
    assert [(s.name, s.precision, s.reason) for s in record.sites] == [
        ("s1", "float", REASON),
        ("s0", "int8", ""),
        ("s2", "int8", ""),
    ]
    assert record.fallback == ("before", "s1")


def test_recipe_of_the_bundle_pins_what_was_set_back_behind_other_pins():
    recipe = Recipe(quantization=Quantization(sites={"s1": "float", "s*": "float", "s9": "int8"}))
    record = QuantizationRecord(1, set_back=SetBack(("s3", "s1"), 12, 2, 2, IMAGES, 4.0, 0.0, True))
    assert list(pin_set_back(recipe, record).quantization.sites.items()) == [
        ("s*", "float"),
        ("s9", "int8"),
        ("s3", "float"),
        ("s1", "float"),
    ]
    for other in (None, SetBack((), 12, 4, 3, IMAGES, 4.0, 2.0, True)):
        assert pin_set_back(recipe, QuantizationRecord(1, set_back=other)) is recipe
