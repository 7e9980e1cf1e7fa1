"""find_doubt: whether answers fit the labels of images at all.

A model whose right answers are as many as chance gives is judged by labels that are not its own: numbered from 1,
sorted as text, of another data set. Nothing that is measured by them means anything, and every variant is "within the
budget".
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from edgevit.measure.intervals import tail_probability

Indices = npt.NDArray[np.int64]

_FEW = 30  # images, of which a model may be right on more than chance gives and still not prove it
_LIKELY = 0.05  # that so many right answers are chance
_FAR = 0.2  # of the images: how many more another numbering must get right to be the one that was meant


def find_doubt(
    answers: Indices, labels: Indices, classes: int, who: str, use: str, matching: str
) -> tuple[str, str] | None:
    """What speaks against the labels, and what to do; ``None`` where nothing does.

    Args:
        answers: ``(N,)``, the classes that come first.
        labels: ``(N,)``.
        classes: How many there are.
        who: Whose answers they are, for the message: ``the float model``.
        use: What the images are for: ``validation``; may be empty.
        matching: How labels were matched with classes.
    """
    right, images = int((answers == labels).sum()), len(labels)
    counts = np.bincount(labels, minlength=classes) * np.bincount(answers, minlength=classes).astype(float)
    chance = float(counts.sum()) / images**2
    lead = f"{who} is right on {right} of {images} {use} images".replace("  ", " ")
    for description, others in _list_numberings(labels, classes):
        better = int((answers == others).sum())
        if better - right >= max(3, _FAR * images):
            return (
                f"{lead}, and on {better} where {description}",
                "name the folders, or the labels in the CSV, after the model's classes, or number them as it does",
            )
    by_chance = right <= chance * images or (images >= _FEW and tail_probability(right, images, chance) > _LIKELY)
    if not by_chance:
        return None
    return (
        f"{lead} ({100 * right / images:.1f} %), no better than chance ({100 * chance:.1f} %); the labels: {matching}",
        "check that the labels are this model's classes in its order, that its weights are trained, and how images are "
        "prepared (edgevit inspect)",
    )


def _list_numberings(labels: Indices, classes: int) -> Iterator[tuple[str, Indices]]:
    """What the labels would be if they had been numbered by another custom."""
    as_text = np.asarray(sorted(range(classes), key=str), np.int64)
    yield (
        "its classes are numbered in the order of their numbers as text (0, 1, 10, 100 …), as torchvision numbers "
        "folders",
        np.argsort(as_text)[labels],
    )
    yield "labels are numbers of classes that were sorted as text (0, 1, 10, 100 …)", as_text[labels]
    if labels.min() >= 1:
        yield "labels are numbered from 1", labels - 1
    if labels.max() + 1 < classes:
        yield "the model has a class of background before them", labels + 1
