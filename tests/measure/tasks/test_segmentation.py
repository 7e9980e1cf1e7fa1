"""Figures of classes, against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgevit.measure.tasks.segmentation import SegmentationAgreement, SegmentationMeter
from edgevit.runtime.tasks.answers import Segmentation
from tests.support.reference import import_torchmetrics

RNG = np.random.default_rng(0)


def answer(classes) -> Segmentation:
    return Segmentation(np.asarray(classes, np.int32))


@pytest.mark.parametrize("classes", [2, 7, 20])
@pytest.mark.parametrize("absent", [0, 3])
def test_figures_are_those_of_torchmetrics(classes: int, absent: int) -> None:
    """With pixels that are ignored, and with classes that occur nowhere."""
    meter = SegmentationMeter(classes + absent)
    metrics = import_torchmetrics().classification
    iou = metrics.MulticlassJaccardIndex(classes + absent, average="macro", ignore_index=255)
    right = metrics.MulticlassAccuracy(classes + absent, average="micro", ignore_index=255)
    for size in ((9, 13), (20, 4), (7, 7)):
        wanted = RNG.integers(0, classes, size)
        found = np.where(RNG.random(size) < 0.6, wanted, RNG.integers(0, classes, size))
        wanted[:2] = 255
        meter.update(answer(found), wanted)
        for metric in (iou, right):
            metric.update(torch.from_numpy(found), torch.from_numpy(wanted))
    figures = meter.result()
    assert figures["miou_percent"] == pytest.approx(100 * float(iou.compute()), rel=1e-5)
    assert figures["pixel_accuracy_percent"] == pytest.approx(100 * float(right.compute()), rel=1e-5)


def test_pixels_that_are_nothing_or_that_the_model_was_not_shown_do_not_count() -> None:
    meter = SegmentationMeter(2)
    meter.update(answer([[0, 0, -1, 1, 1]]), np.array([[0, 1, 0, 1, -1]]))
    assert meter.result() == {
        "pixel_accuracy_percent": pytest.approx(200 / 3),
        "miou_percent": pytest.approx(100 * (1 / 2 + 1 / 2) / 2),
    }


def test_255_is_a_class_where_there_are_as_many() -> None:
    meter = SegmentationMeter(300)
    meter.update(answer([[255, 1]]), np.array([[255, 2]]))
    assert meter.result()["pixel_accuracy_percent"] == 50


def test_agreement_counts_the_pixels_of_the_float_models_class() -> None:
    meter = SegmentationAgreement(3)
    meter.update(answer([[0, 1, 2, 2]]), answer([[0, 1, 1, -1]]))
    assert meter.result() == {
        "kept_pixels_percent": pytest.approx(200 / 3),
        "kept_miou_percent": pytest.approx(100 * (1 + 1 / 2 + 0) / 3),
    }


def test_nothing_judged_has_no_figures_and_other_sizes_are_refused() -> None:
    meter = SegmentationMeter(2)
    meter.update(answer([[0]]), np.array([[255]]))
    assert (meter.images, meter.result()) == (1, {})
    with pytest.raises(ValueError, match=r"shape \(1, 1\) for a map of \(1, 2\)"):
        meter.update(answer([[0]]), np.array([[0, 1]]))
    with pytest.raises(ValueError, match="class 2 was found, and there are 2"):
        meter.update(answer([[2]]), np.array([[0]]))
