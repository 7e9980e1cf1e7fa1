from __future__ import annotations

from dataclasses import replace

import pytest

from edgevit.cli.page.quality import find_front, measure_quality
from edgevit.core.report.report import Accuracy
from edgevit.core.target import Budget
from tests.support.page_bundles import make_accuracy


def test_measure_quality_with_labels_is_top1_with_the_interval_of_the_drop_around_the_float_model() -> None:
    found = measure_quality(make_accuracy(179), Budget(max_drop_points=0.5))
    assert found is not None
    assert (found.measure, found.unit, found.value, found.least) == ("top-1", "%", 89.5, 89.5)
    assert (found.low, found.high) == (90 - 1.75, 90 + 1.25)


def test_measure_quality_of_top1_ends_at_all_of_the_images() -> None:
    found = measure_quality(make_accuracy(200, reference_top1=199), Budget())
    assert found is not None
    assert (found.low, found.high) == (99.5 - 1.75, 100)


def test_measure_quality_without_labels_is_agreement() -> None:
    found = measure_quality(Accuracy(200, False, 190, 0.91, 0.97), Budget(min_agreement=0.98))
    assert found is not None
    assert (found.value, found.least, found.low, found.high) == (95.0, 98.0, 91.0, 97.0)


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        (Accuracy(10, False, 9, 0.5, 1.0, task="embed", cosine_mean=0.999), ("recall@1", "%", 90.0, 90.0)),
        (Accuracy(10, False, None, None, None, task="embed", cosine_mean=0.999), ("mean cosine", "", 0.999, 0.99)),
        (
            Accuracy(10, False, None, None, None, task="features", level_sqnr_db={"a": 30.0, "b": 22.5, "c": None}),
            ("SQNR of the worst level", "dB", 22.5, 20.0),
        ),
        (
            Accuracy(
                10,
                False,
                *(None, None, None),
                task="pose",
                level_sqnr_db={"a": 30.0},
                task_figures={"kept_pck_percent": 97.0},
            ),
            ("PCK to the float model's keypoints", "%", 97.0, 80.0),
        ),
        (replace(make_accuracy(180), task="embed"), ("top-1 of nearest neighbours", "%", 90.0, 89.5)),
    ],
)
def test_measure_quality_of_other_tasks_is_what_their_budget_is_about(figures, expected) -> None:
    found = measure_quality(figures, Budget())
    assert found is not None
    assert found.measure.startswith(expected[0])
    assert (found.unit, found.value, found.least) == expected[1:]


def test_measure_quality_of_features_without_noise_is_none() -> None:
    figures = Accuracy(10, False, None, None, None, task="features", level_sqnr_db={"a": None})
    assert measure_quality(figures, Budget()) is None


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1, 90), (2, 95), (3, 94)], [True, True, False]),
        ([(1, 90), (1, 95)], [False, True]),
        ([(1, 90), (2, 90)], [True, False]),
        ([(1, 90), (1, 90)], [True, True]),
        ([None, (5, 1)], [False, True]),
        ([], []),
    ],
)
def test_find_front_keeps_what_no_other_beats(points, front) -> None:
    assert find_front(points) == front
