"""read_label_texts: labels and the templates that they are put into, from files or as they are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from edgevit.core.errors import DataError, count_things, format_offenders

Lines: TypeAlias = str | os.PathLike[str] | Sequence[str]
"""A text file's path, or its lines."""

HOLE = "{}"
"""Where a label goes in a template."""


@dataclass(frozen=True)
class LabelTexts:
    """What a head is made of in place of weights of its own.

    Attributes:
        labels: Of the classes, in order.
        templates: Texts with ``{}`` for the label; the head has the mean of all of them. None for the publisher's.
    """

    labels: tuple[str, ...]
    templates: tuple[str, ...] = ()

    def fill(self, templates: Iterable[str]) -> list[str]:
        """Every label in every template, label by label."""
        templates = tuple(templates)
        return [template.replace(HOLE, label) for label in self.labels for template in templates]


def read_label_texts(labels: Lines, templates: Lines | None = None) -> LabelTexts:
    """Read labels and templates, a line each.

    Args:
        labels: A file, or the labels.
        templates: A file, or the templates; none for the publisher's.

    Raises:
        DataError: A file cannot be read or has no lines; lines are empty, labels are there twice (also in another
            case), or templates have no place for a label. All of them are listed.
    """
    where, names = _read_lines(labels, "labels")
    lines: dict[str, list[int]] = {}
    for number, name in enumerate(names, 1):
        lines.setdefault(" ".join(name.casefold().split()), []).append(number)
    twice = [f"{names[at[0] - 1]}: lines {', '.join(map(str, at))}" for at in lines.values() if len(at) > 1]
    if twice:
        raise DataError(
            f"{where} names {count_things(len(twice), 'label')} more than once:\n{format_offenders(twice)}",
            "a label is one class: leave the others out, or say in words how they differ",
        )
    if templates is None:
        return LabelTexts(tuple(names))
    where, forms = _read_lines(templates, "templates")
    without = [f"line {number}: {form}" for number, form in enumerate(forms, 1) if HOLE not in form]
    if without:
        raise DataError(
            f"{where}: {count_things(len(without), 'template has', 'templates have')} no {HOLE} for the label:\n"
            f"{format_offenders(without)}",
            "write a line for each, as in: a photo of a {}.",
        )
    return LabelTexts(tuple(names), tuple(forms))


def read_given_texts(labels: Lines | None, templates: Lines | None) -> LabelTexts | None:
    """The same where there may be none.

    Raises:
        DataError: There are templates without labels.
    """
    if labels is not None:
        return read_label_texts(labels, templates)
    if templates is not None:
        raise DataError("there are templates and no labels to put into them", "give --labels with --templates")
    return None


def _read_lines(given: Lines, what: str) -> tuple[str, list[str]]:
    """What to call them in a message, and the lines without what stands around them."""
    if isinstance(given, (str, os.PathLike)):
        where = os.fspath(given)
        try:
            lines = Path(where).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as exc:  # ValueError: not UTF-8, or no path
            reason = exc.strerror or exc if isinstance(exc, OSError) else exc
            raise DataError(
                f"{where} cannot be read: {reason}", f"give a text file in UTF-8, a line for each of the {what}"
            ) from exc
    else:
        where, lines = f"the list of {what}", list(given)
    lines = [line.strip() for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{where} has no {what}", f"write a line for each of the {what}")
    empty = [f"line {number}" for number, line in enumerate(lines, 1) if not line]
    if empty:
        raise DataError(
            f"{where} has {count_things(len(empty), 'empty line')} between its {what}:\n{format_offenders(empty)}",
            "every line is a class, counted from 0: fill them or take them out",
        )
    return where, lines
