"""What an evaluation found beside what a bundle carries."""

from __future__ import annotations

from typing import Any

import pytest

from edgevit.measure.figure_change import compare_figures


def test_what_the_issue_saw_is_beyond_chance() -> None:
    """7.54 % of 597 images for a bundle that carries 97.65 %."""
    (change,) = compare_figures({"top1_percent": 45}, 597, {"images": 597, "top1_percent": 97.65})
    assert change.beyond_chance
    assert change.high_points < -80
    assert change.describe().startswith(
        "top-1 is 7.54 % of these 597 images, and the bundle carries 97.65 % of 597: more than chance"
    )


@pytest.mark.parametrize(("count", "beyond"), [(40, False), (39, False), (36, False), (25, True), (0, True)])
def test_few_images_tell_little(count: int, beyond: bool) -> None:
    (change,) = compare_figures({"top1_percent": count}, 40, {"images": 1000, "top1_percent": 95.0})
    assert change.beyond_chance is beyond


def test_both_directions_count() -> None:
    (change,) = compare_figures({"top1_percent": 90}, 100, {"images": 100, "top1_percent": 50})
    assert change.beyond_chance
    assert change.low_points > 0


def test_agreement_is_compared_where_both_have_it() -> None:
    figures = {"images": 600, "top1_percent": 72.0, "agreement_percent": 99.5}
    found = compare_figures({"top1_percent": 430, "agreement_percent": 8}, 600, figures)
    assert [(c.name, c.beyond_chance) for c in found] == [("top-1", False), ("agreement", True)]
    assert compare_figures({"top1_percent": None, "agreement_percent": None}, 600, figures) == ()


@pytest.mark.parametrize(
    "figures",
    [{}, {"images": 0, "top1_percent": 50}, {"images": True, "top1_percent": 50}, {"images": "9", "top1_percent": 50},
     {"images": 100}, {"images": 100, "top1_percent": "50"}, {"images": 100, "top1_percent": 101},
     {"images": 100, "top1_percent": -1}, {"images": 100, "top1_percent": True}],
)  # fmt: skip
def test_what_is_no_percentage_is_not_compared(figures: dict[str, Any]) -> None:
    assert compare_figures({"top1_percent": 5}, 10, figures) == ()
