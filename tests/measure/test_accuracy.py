"""Counts and errors of the meter, against torch and against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgevit.build.verdict.choose import find_miss
from edgevit.core.errors import CheckpointError, CompileError, DataError
from edgevit.core.report.report import Accuracy
from edgevit.core.target import Budget
from edgevit.measure.accuracy import AccuracyMeter

# Whole numbers, so that ties are frequent.
LOGITS = hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(2, 9)), elements=st.integers(-3, 3))


def measure_at_once(logits: np.ndarray, reference: np.ndarray, labels: np.ndarray | None) -> Accuracy:
    meter = AccuracyMeter(logits.shape[1], labelled=labels is not None)
    meter.update(logits, reference, labels)
    return meter.result()


@settings(deadline=None)
@given(LOGITS, st.data())
def test_meter_counts_what_a_stable_sort_counts(logits: np.ndarray, data: st.DataObject) -> None:
    images, classes = logits.shape
    reference = data.draw(hnp.arrays(np.float32, logits.shape, elements=st.integers(-3, 3)))
    labels = data.draw(hnp.arrays(np.int64, images, elements=st.integers(0, classes - 1)))
    order, reference_order = (np.argsort(-x, axis=1, kind="stable") for x in (logits, reference))
    right, reference_right = order[:, 0] == labels, reference_order[:, 0] == labels
    found = measure_at_once(logits, reference, labels)
    assert found.top1 == right.sum()
    assert found.top5 == sum(label in row[:5] for label, row in zip(labels, order, strict=True))
    assert found.reference_top1 == reference_right.sum()
    assert found.reference_top5 == sum(label in row[:5] for label, row in zip(labels, reference_order, strict=True))
    assert found.agreement == (order[:, 0] == reference_order[:, 0]).sum()
    assert (found.gained, found.lost) == ((right & ~reference_right).sum(), (~right & reference_right).sum())
    assert found.drop_points == pytest.approx(found.reference_top1_percent - found.top1_percent)
    assert found.drop_low <= found.drop_points <= found.drop_high
    assert found.agreement_low <= found.agreement / images <= found.agreement_high
    changed = {c.label: (c.images, c.reference_correct, c.correct) for c in found.per_class}
    for label in range(classes):
        members = labels == label
        counts = (members.sum(), reference_right[members].sum(), right[members].sum())
        assert changed.get(label) == (counts if counts[1] != counts[2] else None)


@settings(deadline=None)
@given(LOGITS, st.data())
def test_meter_gives_the_same_however_images_are_batched(logits: np.ndarray, data: st.DataObject) -> None:
    images = len(logits)
    noise = data.draw(hnp.arrays(np.float32, logits.shape, elements=st.floats(-1, 1, width=32)))
    labels = data.draw(hnp.arrays(np.int64, images, elements=st.integers(0, logits.shape[1] - 1)))
    cuts = sorted(data.draw(st.sets(st.integers(1, images), max_size=5)) | {images})
    meter = AccuracyMeter(logits.shape[1], labelled=True)
    for start, end in zip([0, *cuts], cuts, strict=False):
        meter.update(logits[start:end] + noise[start:end], logits[start:end], labels[start:end])
    assert meter.result() == measure_at_once(logits + noise, logits, labels)


def test_meter_agrees_with_torch_on_random_logits() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(500, 1000)).astype(np.float32)
    reference = logits + 0.05 * generator.normal(size=logits.shape).astype(np.float32)
    labels = np.where(generator.random(500) < 0.8, logits.argmax(1), generator.integers(0, 1000, 500))
    found = measure_at_once(logits, reference, labels)
    hits = torch.from_numpy(logits).topk(5).indices == torch.from_numpy(labels)[:, None]
    assert found.top1 == int(hits[:, 0].sum())
    assert found.top5 == int(hits.any(1).sum())
    signal, noise = (reference.astype(float) ** 2).sum(), ((reference.astype(float) - logits) ** 2).sum()
    assert found.sqnr_db == pytest.approx(10 * math.log10(signal / noise))


def test_meter_without_labels_gives_agreement_and_sqnr_alone() -> None:
    logits = np.asarray([[1.0, 2.0], [3.0, 0.0]], np.float32)
    found = measure_at_once(logits, logits[:, ::-1] * 2, None)
    assert (found.labelled, found.agreement, found.top1, found.drop_points, found.lost) == (False, 0, None, None, None)
    assert found.sqnr_db == pytest.approx(10 * math.log10((16 + 4 + 36) / (9 + 9 + 36)))


def test_meter_has_no_sqnr_when_logits_are_equal() -> None:
    logits = np.ones((2, 3), np.float32)
    assert measure_at_once(logits, logits, None).sqnr_db is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_meter_names_the_files_when_logits_are_not_finite(value: float) -> None:
    good, bad = np.zeros((3, 4)), np.zeros((3, 4))
    bad[1, 2] = value
    with pytest.raises(CompileError, match=r"engine[\s\S]*b\.jpg") as caught:
        AccuracyMeter(4, labelled=False).update(bad, good, files=["a.jpg", "b.jpg", "c.jpg"])
    assert "a.jpg" not in caught.value.message
    with pytest.raises(CheckpointError, match=r"float model[\s\S]*image 1"):
        AccuracyMeter(4, labelled=False).update(good, bad)


def test_meter_lists_every_label_that_is_no_class() -> None:
    with pytest.raises(DataError, match=r"2 labels[\s\S]*a: label 4\n.*c: label -1"):
        AccuracyMeter(4, labelled=True).update(np.zeros((3, 4)), np.zeros((3, 4)), np.asarray([4, 3, -1]), "abc")


def test_meter_refuses_logits_of_another_shape() -> None:
    with pytest.raises(CompileError, match="shape"):
        AccuracyMeter(4, labelled=False).update(np.zeros((3, 5)), np.zeros((3, 4)))
    with pytest.raises(CompileError, match="answered 2 images of 3"):
        AccuracyMeter(4, labelled=False).update(np.zeros((2, 4)), np.zeros((3, 4)))


def test_meter_without_images_has_no_result() -> None:
    with pytest.raises(DataError, match="no images"):
        AccuracyMeter(4, labelled=False).result()


def measure_scores(
    scores: str, logits: np.ndarray, reference: np.ndarray, labels: np.ndarray | None = None
) -> Accuracy:
    meter = AccuracyMeter(reference.shape[1], labelled=labels is not None, scores=scores)
    meter.update(logits, reference, labels)
    return meter.result()


def about_the_mean(logits: np.ndarray, reference: np.ndarray) -> float:
    return float(
        10 * np.log10(np.square(reference - reference.mean(axis=0)).sum() / np.square(reference - logits).sum())
    )


def test_one_output_agrees_by_its_sign_and_is_right_by_labels_of_0_and_1() -> None:
    reference = np.asarray([[2.0], [-1.0], [0.5], [-3.0], [0.2]])
    logits = np.asarray([[1.0], [-1.0], [-0.1], [-3.0], [0.3]])
    found = measure_scores("sigmoid", logits, reference)
    assert (found.agreement, found.no_agreement) == (4, "")
    judged = measure_scores("sigmoid", logits, reference, np.asarray([1, 0, 1, 0, 0]))
    assert (judged.top1, judged.reference_top1, judged.lost, judged.gained) == (3, 4, 1, 0)
    with pytest.raises(DataError, match="1 label is not between 0 and 1"):
        measure_scores("sigmoid", logits, reference, np.asarray([1, 0, 1, 0, 2]))


def test_labels_by_themselves_agree_where_all_of_them_do() -> None:
    reference = np.asarray([[1.0, 1.0, -1.0], [1.0, -1.0, -1.0], [-1.0, -1.0, 2.0]])
    logits = reference.copy()
    logits[1, 1] = 0.1  # another label is there, though the first is the same
    assert measure_scores("sigmoid", logits, reference).agreement == 2
    assert measure_scores("softmax", logits, reference).agreement == 3


@pytest.mark.parametrize("scores", ["softmax", "sigmoid", "identity"])
def test_agreement_that_cannot_fail_gives_way_to_the_sqnr_about_the_mean(scores: str) -> None:
    """Case 09: the mean itself, which every engine keeps, is no signal."""
    generator = np.random.default_rng(3)
    reference = np.asarray([9.0, 4.0]) + 0.1 * generator.normal(size=(40, 2))
    logits = reference + 0.05 * generator.normal(size=(40, 2))
    found = measure_scores(scores, logits, reference)
    assert found.agreement is found.agreement_low is found.agreement_high is None
    assert found.level_sqnr_db == {"the output": pytest.approx(about_the_mean(logits, reference))}
    assert found.level_sqnr_db["the output"] < 10 < 30 < found.sqnr_db
    assert ("numbers" if scores == "identity" else "one answer to all 40 images") in found.no_agreement


def test_images_that_are_all_alike_leave_the_outputs_themselves() -> None:
    reference = np.full((5, 1), 3.0)
    found = measure_scores("identity", reference + 0.03, reference)
    assert found.level_sqnr_db == {"the output": pytest.approx(40, abs=0.1)}


def test_images_that_are_all_alike_are_named_as_the_cause() -> None:
    reference = np.full((5, 1), 3.0)
    found = measure_scores("sigmoid", reference + 0.03, reference)
    assert found.no_agreement.endswith("the SQNR of the outputs is judged, as the images are all alike to it")


def test_labelled_images_of_one_answer_are_judged_by_the_sqnr_too() -> None:
    """Goes on with --accept-chance: the drop is 0 whatever the engine gives."""
    generator = np.random.default_rng(3)
    reference = np.asarray([9.0, 4.0]) + 0.1 * generator.normal(size=(40, 2))
    logits = np.broadcast_to(reference.mean(axis=0), (40, 2))
    found = measure_scores("softmax", logits, reference, np.arange(40) % 2)
    assert (found.top1, found.reference_top1, found.drop_points) == (20, 20, 0.0)
    assert found.level_sqnr_db == {"the output": pytest.approx(0.0, abs=1e-6)}
    assert find_miss(found, Budget()) is not None
    assert "agreement and top-1 cannot fail" in found.no_agreement
