"""Labels that the float model answers no better than chance stop a build, with the numbering that would fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgevit.build.chance import check_labels
from edgevit.build.evidence import Evidence, Judged
from edgevit.core.errors import DataError
from edgevit.core.report.report import DataUse
from edgevit.core.task import Task
from edgevit.pixels.images import ImageSet
from edgevit.pixels.preprocess import Preprocess

PREPROCESS = Preprocess(8, 8, "none", 8, 8, "bilinear", (0.0,) * 3, (1.0,) * 3)


def make_evidence(answers: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], classes: int) -> Evidence:
    """A float model that gives these answers to images of these labels."""
    images = ImageSet(Path("data"), tuple(f"{i}.png" for i in range(len(labels))), tuple(labels.tolist()))
    logits = np.zeros((len(answers), classes), np.float32)
    logits[np.arange(len(answers)), answers] = 1
    judged = Judged(images, (logits,), DataUse("data", len(labels), True, ""))
    return Evidence(PREPROCESS, np.zeros((1, 8, 8, 3), np.uint8), (logits[:1],), validation=judged)


def draw(images: int, classes: int, share: float, seed: int = 0) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """True classes, and answers that are right for a share of them."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, images)
    wrong = generator.random(images) >= share
    return truth, np.where(wrong, generator.integers(0, classes, images), truth)


def refuse(evidence: Evidence) -> DataError:
    with pytest.raises(DataError) as caught:
        check_labels(evidence, accept=False)
    assert "--accept-chance goes on" in caught.value.hint
    (warning,) = check_labels(evidence, accept=True)
    assert warning == caught.value.message
    return caught.value


@pytest.mark.parametrize(("images", "classes", "share"), [(300, 1000, 0.8), (60, 2, 0.8), (40, 10, 0.3), (10, 10, 0.4)])
def test_model_that_is_better_than_chance_goes_on(images: int, classes: int, share: float) -> None:
    truth, answers = draw(images, classes, share)
    assert check_labels(make_evidence(answers, truth, classes), accept=False) == ()


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_shuffled_labels_stop_the_build(classes: int) -> None:
    truth, answers = draw(200, classes, 0.9)
    shuffled = np.random.default_rng(5).permutation(truth)
    assert "no better than chance" in refuse(make_evidence(answers, shuffled, classes)).message


def test_model_that_answers_one_class_is_right_by_chance_however_often_that_is() -> None:
    labels = np.asarray([0] * 90 + [1] * 10)
    message = refuse(make_evidence(np.zeros(100, np.int64), labels, 2)).message
    assert "right on 90 of 100 validation images (90.0 %), no better than chance (90.0 %)" in message


def test_classes_sorted_as_text_are_recognised_though_some_are_right() -> None:
    """Case 03: 1 % of 1,000 classes are right, ten times as many as by chance."""
    truth, answers = draw(300, 1000, 0.83)
    position = {number: place for place, number in enumerate(sorted(range(1000), key=str))}
    sorted_as_text = np.asarray([position[int(answer)] for answer in answers])
    message = refuse(make_evidence(sorted_as_text, truth, 1000)).message
    assert (
        f"on {(answers == truth).sum()} where its classes are numbered in the order of their numbers as text" in message
    )


@pytest.mark.parametrize(("shift", "words"), [(1, "numbered from 1"), (-1, "a class of background")])
def test_numbers_that_are_one_off_are_recognised(shift: int, words: str) -> None:
    truth, answers = draw(100, 20, 0.9)
    inside = (truth >= 1) & (truth <= 18)
    assert words in refuse(make_evidence(answers[inside], truth[inside] + shift, 20)).message


def test_unlabelled_images_and_other_tasks_are_not_judged() -> None:
    truth, answers = draw(100, 10, 0.0)
    evidence = make_evidence(answers, truth, 10)
    assert evidence.validation is not None
    unlabelled = ImageSet(Path("data"), evidence.validation.images.files)
    for other in (
        Evidence(PREPROCESS, evidence.pixels, evidence.outputs),
        Evidence(PREPROCESS, evidence.pixels, evidence.outputs, task=Task("embed"), validation=evidence.validation),
        Evidence(
            PREPROCESS,
            evidence.pixels,
            evidence.outputs,
            validation=Judged(unlabelled, evidence.validation.outputs, evidence.validation.use),
        ),
    ):
        assert check_labels(other, accept=False) == ()
