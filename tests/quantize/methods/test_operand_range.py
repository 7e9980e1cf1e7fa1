"""Ranges of operands of products, of all images and of those that judge nothing."""

from __future__ import annotations

import numpy as np

from edgevit.quantize.methods.operand_range import OperandRange

IMAGES = np.random.default_rng(0).normal(size=(4, 2, 3, 5, 7)).astype(np.float32)  # of two windows, three heads each


def test_range_and_rows_are_those_of_all_images() -> None:
    seen = OperandRange()
    for place, values in enumerate(IMAGES):
        seen.add(values, judges=place < 2)
    assert (seen.low, seen.high) == (IMAGES.min(), IMAGES.max())
    np.testing.assert_array_equal(seen.rows, IMAGES.max(axis=(0, 1, 4)))


def test_images_that_judge_have_no_part_in_the_unjudged_rows() -> None:
    seen = OperandRange()
    for place, values in enumerate(IMAGES):
        seen.add(values, judges=place < 2)
    np.testing.assert_array_equal(seen.unjudged_rows, IMAGES[2:].max(axis=(0, 1, 4)))
    assert not np.array_equal(seen.unjudged_rows, seen.rows)


def test_rows_of_all_stand_where_every_image_judges() -> None:
    seen = OperandRange()
    seen.add(IMAGES[0], judges=True)
    np.testing.assert_array_equal(seen.unjudged_rows, seen.rows)


def test_map_counts_as_one_head() -> None:
    seen = OperandRange()
    seen.add(IMAGES[0, 0])
    np.testing.assert_array_equal(seen.rows, IMAGES[0, 0].max(axis=(0, 2))[None])
