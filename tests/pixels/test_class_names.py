"""Names of folders and labels of CSVs find their classes by one rule, and likely mistakes are named."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.core.errors import DataError
from edgevit.pixels.class_names import Matching, expect_labels, match_classes

WHERE = Path("data")
PETS = ["dog", "cat", "guinea pig", "café owl"]


def match(names: list[str], labels: list[str] | None = None, classes: int | None = None) -> Matching:
    return match_classes(names, labels, classes, WHERE, "folders")


def refuse(names: list[str], labels: list[str] | None = None, classes: int | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        match(names, labels, classes)
    assert "--skip-bad-images" not in caught.value.hint
    return caught.value


@given(st.permutations(range(12)))
def test_names_that_are_numbers_are_taken_as_names(order: list[int]) -> None:
    """Case 02: a permutation of 0 … N − 1, of which the number would be another class."""
    labels = [str(number) for number in order]
    found = match(list(labels), labels)
    assert found.index_of == {name: labels.index(name) for name in labels}
    assert found.rule.startswith("matched by name")
    assert ("numbers too" in found.rule) == (order != sorted(order))


def test_case_underscores_and_unicode_forms_do_not_matter() -> None:
    names = ["DOG", "Guinea_Pig", unicodedata.normalize("NFD", "café owl")]
    assert match(names, PETS).index_of == dict(zip(names, (0, 2, 3), strict=True))


def test_numbers_are_indices_where_they_are_no_names() -> None:
    assert match(["3", "10", "002"], None, 12).index_of == {"3": 3, "10": 10, "002": 2}
    assert match(["0", "3"], PETS).rule == "matched by number"
    mixed = match(["cat", "3"], PETS)
    assert (mixed.index_of, mixed.rule) == ({"cat": 1, "3": 3}, "matched by name and by number")


def test_number_beside_names_that_are_numbers_is_not_guessed() -> None:
    assert "1 of 2 folders" in refuse(["7", "1"], ["7", "9"]).message


@pytest.mark.parametrize("labels", [None, PETS, [f"LABEL_{i}" for i in range(4)]])
def test_numbers_from_one_are_refused_as_such(labels: list[str] | None) -> None:
    """Case 19."""
    error = refuse(["1", "2", "3", "4"], labels, 4)
    assert "numbered from 1 to 4" in error.message
    assert "0 to 3" in error.message
    assert error.hint.startswith("number them from 0")


def test_numbers_beyond_the_classes_are_listed() -> None:
    error = refuse(["0", "7", "40"], PETS)
    assert "2 of 3 folders are no number from 0 to 3" in error.message
    assert error.message.endswith("  7\n  40")


def test_names_none_of_which_fits_are_refused_with_both_lists_and_the_nearest() -> None:
    """Case 05: cats/ and dogs/ for classes dog and cat."""
    error = refuse(["cats", "dogs"], ["dog", "cat"])
    assert "2 of 2 folders cannot be matched with the model's 2 classes" in error.message
    assert "cats (is it cat?)" in error.message
    assert "dogs (is it dog?)" in error.message
    assert error.message.endswith("the model's classes are\n  dog\n  cat")
    assert "(is it tench, Tinca tinca?)" in refuse(["tench", "b"], ["tench, Tinca tinca", "church"]).message


def test_long_lists_are_shortened() -> None:
    error = refuse([f"thing {i}x" for i in range(40)], [f"class of {i}y" for i in range(50)])
    assert "… and 30 more" in error.message
    assert "… and 40 more" in error.message


@pytest.mark.parametrize("names", [["train", "val"], ["Test", "Train"], ["training", "validation"]])
def test_folder_of_sets_points_to_the_one_to_judge_by(names: list[str]) -> None:
    error = refuse(names, PETS)
    assert "not a folder for each class" in error.message
    held = next(name for name in names if name.lower()[0] == "v" or name == "Test")
    others = next(name for name in names if name != held)
    assert error.hint == f"give {WHERE / held} to judge by, or {WHERE / others} to calibrate on"


def test_folder_of_one_set_points_to_it_for_whatever_it_was_given() -> None:
    assert refuse(["train", "cats"], PETS).hint == f"give {WHERE / 'train'}"


def test_order_counts_only_without_names_of_the_model_and_for_all_of_its_classes() -> None:
    for labels in (None, [f"LABEL_{i}" for i in range(3)]):
        found = match(["emu", "ant", "bee"], labels, 3)
        assert found.index_of == {"ant": 0, "bee": 1, "emu": 2}
        assert found.order == ("ant", "bee", "emu")
        assert "0 = ant, 1 = bee, 2 = emu" in found.rule
    assert "the model has 5 classes without names" in refuse(["ant", "bee"], None, 5).message
    assert match(["ant", "bee"]).index_of == {"ant": 0, "bee": 1}, "how many classes there are is not known"


def test_all_synsets_of_imagenet_are_its_order_whatever_the_model_calls_its_classes() -> None:
    synsets = [f"n{1440764 + 3 * i:08}" for i in range(1000)]
    found = match(list(reversed(synsets)), [f"thing {chr(97 + i % 26)} {i}" for i in range(1000)])
    assert [found.index_of[name] for name in synsets] == list(range(1000))
    assert "synsets" in found.rule
    refuse(synsets[:10], [f"thing {i} x" for i in range(1000)])


def test_numbers_and_names_without_names_of_the_model_are_refused() -> None:
    assert "some are numbers and some are names" in refuse(["0", "1", "cat"]).message


def test_labels_that_are_expected_follow_what_the_outputs_mean() -> None:
    assert expect_labels("softmax", PETS, 4) == {"labels": PETS, "classes": 4}
    assert expect_labels("softmax", None, 0) == {"labels": None, "classes": None}
    assert expect_labels("identity", None, 1) == expect_labels("sigmoid", PETS, 4) == {"labelled": False}
    assert expect_labels("sigmoid", None, 1) == {"labels": ("0", "1"), "classes": 2}
    defects = expect_labels("sigmoid", ["defect"], 1)
    assert match(["defect", "Not_Defect"], defects["labels"], 2).index_of == {"Not_Defect": 0, "defect": 1}
    refuse(["defect", "fine"], defects["labels"], 2)
