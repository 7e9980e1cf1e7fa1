"""Figures of embeddings, against the same computed image by image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.core.errors import CheckpointError, CompileError
from edgevit.measure.embeddings import EmbeddingMeter

RNG = np.random.default_rng(0)
REFERENCE = RNG.normal(size=(24, 6)).astype(np.float32)
LABELS = [i % 3 for i in range(24)]
ENGINE = (REFERENCE + RNG.normal(scale=0.3, size=REFERENCE.shape)).astype(np.float32)


def measure(embeddings, reference=REFERENCE, labels=LABELS, size=5):
    meter = EmbeddingMeter(reference, labels)
    for start in range(0, len(embeddings), size):
        meter.update(embeddings[start : start + size])
    return meter.result()


def cosine(a, b):
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


def find_neighbours(query, own, reference):
    others = [i for i in range(len(reference)) if i != own]
    return sorted(others, key=lambda i: -cosine(query, reference[i]))


def vote(query, own):
    near = find_neighbours(query, own, REFERENCE)[:20]
    votes = {k: sum(np.exp(cosine(query, REFERENCE[i]) / 0.07) for i in near if LABELS[i] == k) for k in range(3)}
    return max(votes, key=lambda k: votes[k])


def test_cosine_of_equal_embeddings_is_not_above_one() -> None:
    many = RNG.normal(size=(200, 256)).astype(np.float32)
    found = measure(many, many, None)
    assert 1 - 1e-6 < found.cosine_min <= found.cosine_mean <= 1


def test_figures_equal_those_computed_image_by_image() -> None:
    found = measure(ENGINE)
    cosines = [cosine(a, b) for a, b in zip(ENGINE, REFERENCE, strict=True)]
    assert found.cosine_mean == pytest.approx(np.mean(cosines), abs=1e-6)
    assert found.cosine_min == pytest.approx(min(cosines), abs=1e-6)
    pairs = [
        (find_neighbours(e, i, REFERENCE), find_neighbours(REFERENCE[i], i, REFERENCE)) for i, e in enumerate(ENGINE)
    ]
    assert found.agreement == sum(ours[0] == theirs[0] for ours, theirs in pairs)
    shared = [len(set(ours[:10]) & set(theirs[:10])) / 10 for ours, theirs in pairs]
    assert found.recall10 == pytest.approx(np.mean(shared))
    right = [vote(e, i) == LABELS[i] for i, e in enumerate(ENGINE)]
    float_right = [vote(e, i) == LABELS[i] for i, e in enumerate(REFERENCE)]
    assert (found.top1, found.reference_top1) == (sum(right), sum(float_right))
    assert found.drop_points == pytest.approx(100 * (sum(float_right) - sum(right)) / 24)
    noise = np.square(ENGINE.astype(float) - REFERENCE).sum()
    assert found.sqnr_db == pytest.approx(10 * np.log10(np.square(REFERENCE.astype(float)).sum() / noise), abs=1e-4)
    assert 0 < found.agreement < 24  # or it would prove little


@given(st.integers(1, 24))
def test_batches_change_nothing(size: int) -> None:
    assert measure(ENGINE, size=size) == measure(ENGINE, size=24)


def test_equal_embeddings_agree_whatever_their_length() -> None:
    found = measure(REFERENCE * 3)
    assert (found.agreement, found.recall10, found.drop_points) == (24, 1.0, 0.0)
    assert found.cosine_mean == pytest.approx(1, abs=1e-6)


def test_one_image_has_no_neighbours_and_no_labels_count() -> None:
    found = measure(ENGINE[:1], REFERENCE[:1], LABELS[:1])
    assert (found.agreement, found.recall10, found.top1, found.labelled) == (None, None, None, False)


def test_values_that_are_not_finite_are_refused_with_the_image() -> None:
    bad = ENGINE.copy()
    bad[7, 2] = np.nan
    with pytest.raises(CompileError, match="not finite for 1 image:"):
        measure(bad)
    with pytest.raises(CheckpointError, match="not finite"):
        measure(ENGINE, bad)
    with pytest.raises(CompileError, match="25 images of 24"):
        measure(np.concatenate([ENGINE, ENGINE[:1]]))
