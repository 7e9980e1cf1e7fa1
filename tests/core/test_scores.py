"""Percentages come from counts, and the worst level from its decibels."""

from __future__ import annotations

import pytest

from edgevit.core.report.scores import Accuracy


def test_accuracy_percentages_come_from_counts() -> None:
    found = Accuracy(600, True, 600, 0.99, 1.0, top1=512, top5=588, reference_top1=512, reference_top5=588)
    assert found.top1_percent == pytest.approx(85.3333, abs=1e-4)
    assert found.agreement_percent == 100.0
    assert Accuracy(600, False, 594, 0.97, 1.0).top1_percent is None


def test_worst_level_is_the_one_with_most_noise_and_none_where_all_are_equal() -> None:
    levels = {"level1": 41.0, "level2": None, "level3": 39.5}
    assert Accuracy(10, False, None, None, None, level_sqnr_db=levels).worst_level == ("level3", 39.5)
    assert Accuracy(10, False, None, None, None, level_sqnr_db={"level1": None}).worst_level is None
    assert Accuracy(10, False, None, None, None).worst_level is None
