"""Files of labels and templates."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.checkpoints.texts.label_texts import LabelTexts, read_given_texts, read_label_texts
from edgevit.core.errors import DataError


def test_lines_are_the_labels_without_what_stands_around_them(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufefftench, Tinca tinca\r\n  gas pump \r\nÉglise\r\n\r\n".encode())
    assert read_label_texts(path) == LabelTexts(("tench, Tinca tinca", "gas pump", "Église"))
    assert read_label_texts(str(path), ["{}", "a {} or {}"]).templates == ("{}", "a {} or {}")


def test_labels_fill_templates_label_by_label_whatever_braces_they_have() -> None:
    texts = read_label_texts(["a {0} b", "{}"], ["one {}.", "{} {x}"])
    assert texts.fill(texts.templates) == ["one a {0} b.", "a {0} b {x}", "one {}.", "{} {x}"]


def test_list_is_as_good_as_a_file_and_nothing_is_nothing() -> None:
    assert read_given_texts(("cat", "dog"), None) == LabelTexts(("cat", "dog"))
    assert read_given_texts(None, None) is None


def test_templates_without_labels_are_refused() -> None:
    with pytest.raises(DataError, match="no labels to put into them"):
        read_given_texts(None, ["a photo of a {}."])


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "labels.txt").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"labels\.txt has no labels"):
        read_label_texts(tmp_path / "labels.txt")


def test_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_label_texts(tmp_path / "none.txt")
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(DataError, match="cannot be read"):
        read_label_texts(tmp_path / "labels.txt")


def test_all_labels_that_are_there_twice_are_listed() -> None:
    with pytest.raises(DataError) as caught:
        read_label_texts(["Cat", "dog", "fish", "cat", "DOG", " dog  "])
    assert "names 2 labels more than once" in caught.value.message
    assert "Cat: lines 1, 4" in caught.value.message
    assert "dog: lines 2, 5, 6" in caught.value.message


def test_all_empty_lines_between_labels_are_listed() -> None:
    with pytest.raises(DataError, match=r"has 1 empty line between its labels:\n  line 2"):
        read_label_texts(["cat", "", "dog"])
    with pytest.raises(DataError, match=r"2 empty lines between its labels:\n  line 2\n  line 4"):
        read_label_texts(["cat", "", "dog", " ", "fish"])


def test_all_templates_without_a_place_are_listed() -> None:
    with pytest.raises(DataError) as caught:
        read_label_texts(["cat"], ["a {}", "a photo", "a {label}"])
    assert "line 2: a photo" in caught.value.message
    assert "line 3: a {label}" in caught.value.message
    with pytest.raises(DataError, match="has no templates"):
        read_label_texts(["cat"], [])
