"""match_classes: which of a model's classes each folder of images, or each label of a CSV, stands for.

One rule for both: names before numbers, and an order only where there is nothing else to go by. Whatever the rule was
is said in the verdict, and what fits none of them is refused, as a wrong guess ends in a top-1 that means nothing.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.core.errors import DataError, format_offenders

_IMAGENET_CLASSES = 1000
_SPLITS = frozenset(["train", "training", "val", "valid", "validation", "test", "testing", "eval", "dev", "holdout"])
_NEAR = 0.75  # of difflib's ratio: cats and cat have 0.86, jack-o'-lantern and lantern 0.63


@dataclass(frozen=True)
class Matching:
    """What the names stand for.

    Attributes:
        index_of: Class index by name.
        rule: How they were matched, for the end of ``validation: 10 classes, …``.
        order: The names by index, where only their order made the indices.
    """

    index_of: Mapping[str, int]
    rule: str
    order: tuple[str, ...] | None = None


def match_classes(
    names: Iterable[str], labels: Sequence[str] | None, classes: int | None, where: Path, what: str
) -> Matching:
    """Match the names that a set of images uses with the classes of a model.

    Args:
        names: Of the folders, or the labels of a CSV.
        labels: The model's class names, by index.
        classes: How many classes the model has, where that is known.
        where: The folder or the CSV.
        what: ``folders`` or ``labels``.

    Raises:
        DataError: Names that fit no rule, all of them, with the mistake that it most probably is.
    """
    names = sorted(set(names))
    known = _LabelNames(labels or ())
    classes = classes or (len(labels) if labels is not None else None)
    by_name = {name: index for name in names if (index := known.find(name)) is not None}
    rest = [name for name in names if name not in by_name]
    if not rest:
        numbers = all(_is_index(name) for name in names)
        twofold = numbers and any(int(name) != index for name, index in by_name.items())
        return Matching(by_name, "matched by name" + (", though the names are numbers too" if twofold else ""))
    if all(_is_index(name) for name in rest) and not (by_name and any(_is_index(label) for label in labels or ())):
        by_number = {name: int(name) for name in rest}
        _check_numbers(by_number, classes, where, what)
        rule = "matched by number" if not by_name else "matched by name and by number"
        return Matching(by_name | by_number, rule)
    if not by_name and not any(_is_index(name) for name in rest):
        matching = _match_order(names, labels, classes)
        if matching is not None:
            return matching
    raise _refuse(names, rest, known, labels, classes, where, what)


def _match_order(names: list[str], labels: Sequence[str] | None, classes: int | None) -> Matching | None:
    """By the names' order, where the model has no names of its own or they are ImageNet's synsets."""
    order = {name: index for index, name in enumerate(names)}
    if len(names) == classes == _IMAGENET_CLASSES and all(re.fullmatch(r"n\d{8}", name) for name in names):
        return Matching(order, "the synsets of ImageNet-1k in their order", tuple(names))
    if (labels is None or _says_nothing(labels)) and classes in (None, len(names)):
        first = ", ".join(f"{index} = {name}" for index, name in enumerate(names[:3]))
        dots = ", …" if len(names) > 3 else ""
        why = "as the model has no names for its classes"
        return Matching(order, f"numbered in sorted order of their names ({first}{dots}), {why}", tuple(names))
    return None


def _check_numbers(numbers: Mapping[str, int], classes: int | None, where: Path, what: str) -> None:
    if classes is None or max(numbers.values()) < classes:
        return
    if min(numbers.values()) >= 1 and max(numbers.values()) == classes:
        raise DataError(
            f"{where}: the {what} are numbered from 1 to {classes}; the model's {classes} classes are 0 to "
            f"{classes - 1}",
            "number them from 0, or name them after the model's classes",
        )
    beyond = [name for name, number in numbers.items() if number >= classes]
    raise DataError(
        f"{where}: {len(beyond)} of {len(numbers)} {what} are no number from 0 to {classes - 1}, the model's classes:\n"
        + format_offenders(sorted(beyond, key=int)),
        "give images of this model's classes",
    )


def _refuse(
    names: list[str],
    rest: list[str],
    known: _LabelNames,
    labels: Sequence[str] | None,
    classes: int | None,
    where: Path,
    what: str,
) -> DataError:
    """What cannot be matched, what the model has, and the likely mistake."""
    splits = [name for name in names if name.casefold() in _SPLITS]
    if what == "folders" and splits:
        held = next((name for name in splits if name.casefold().startswith(("val", "test"))), splits[0])
        others = [name for name in splits if name.casefold().startswith("train")]
        calibrate = f" to judge by, or {where / others[0]} to calibrate on" if others and others[0] != held else ""
        return DataError(
            f"{where} holds the sets {', '.join(splits)}, not a folder for each class",
            f"give {where / held}{calibrate}",
        )
    if not any(_is_index(label) for label in labels or ()):  # a number would be one's number
        rest = [name for name in rest if not _is_index(name)]
    listed = format_offenders([f"{name}{known.explain(name)}" for name in rest])
    if labels is None:
        mixed = any(_is_index(name) for name in names)
        count = "some are numbers and some are names" if mixed else f"the model has {classes} classes without names"
        return DataError(
            f"{where}: {len(rest)} of {len(names)} {what} cannot be matched with a class, as {count}:\n{listed}",
            "name them after the classes' numbers, from 0",
        )
    theirs = format_offenders(list(labels))
    return DataError(
        f"{where}: {len(rest)} of {len(names)} {what} cannot be matched with the model's {len(labels)} classes:\n"
        f"{listed}\nthe model's classes are\n{theirs}",
        "name them after the model's classes or their numbers, from 0",
    )


def expect_labels(scores: str, labels: Sequence[str] | None, classes: int) -> dict[str, Any]:
    """What :meth:`edgevit.pixels.images.ImageSet.read` shall take for labels of a model's images.

    Args:
        scores: What the outputs mean; see :class:`edgevit.core.task.Task`.
        labels: The model's class names.
        classes: How many outputs there are; 0 where it has no head.
    """
    if not takes_labels(scores, classes):
        return {"labelled": False}
    if scores == "sigmoid":  # one output is the second of two classes
        return {"labels": ("0", "1") if labels is None else (f"not {labels[0]}", labels[0]), "classes": 2}
    return {"labels": labels, "classes": classes or None}


def takes_labels(scores: str, outputs: int) -> bool:
    """Whether a class an image can judge the outputs: neither numbers nor several labels that are there or not."""
    return scores != "identity" and not (scores == "sigmoid" and outputs > 1)


class _LabelNames:
    """Class indices by name, regardless of case, of ``_`` for a space and of how Unicode composes accents.

    A name that two classes share fits none.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._indices: dict[str, list[int]] = {}
        for index, label in enumerate(labels):
            self._indices.setdefault(_fold(label), []).append(index)

    def find(self, name: str) -> int | None:
        indices = self._indices.get(_fold(name), [])
        return indices[0] if len(indices) == 1 else None

    def explain(self, name: str) -> str:
        """Why a name fits none, or which one is near."""
        indices = self._indices.get(_fold(name), [])
        if indices:
            return f": the name of classes {' and '.join(map(str, indices))}"
        near = difflib.get_close_matches(_fold(name), list(self._indices), 1, _NEAR)
        # of a label that lists synonyms, one of them
        near = near or [folded for folded in self._indices if _fold(name) in folded.split(", ")][:1]
        return f" (is it {self._labels[self._indices[near[0]][0]]}?)" if near else ""


def _fold(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).replace("_", " ").casefold().split())


def _says_nothing(labels: Sequence[str]) -> bool:
    """Whether labels are only their own numbers, as transformers' ``LABEL_0``."""
    return all(re.fullmatch(rf"(label|class)?[ -]?0*{index}", _fold(label)) for index, label in enumerate(labels))


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
