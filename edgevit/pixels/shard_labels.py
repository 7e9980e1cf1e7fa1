"""match_shard_labels: which classes the labels of images in tar or parquet files stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgevit.core.errors import DataError, count_things, format_offenders
from edgevit.pixels.class_names import Matching, match_classes


def match_shard_labels(
    files: Sequence[str],
    cells: Sequence[str | None],
    where: Path,
    labels: Sequence[str] | None,
    classes: int | None,
    what: str,
) -> tuple[tuple[int, ...] | None, Matching | None]:
    """A class index for every file, and how they were found; neither where no file has a label.

    Args:
        files: The images' names.
        cells: What each one's label is, as it is written; ``None`` where it has none.
        where: The set, for messages.
        labels: The model's class names, by index.
        classes: How many classes the model has, where that is known.
        what: How a file gets its label, for the hint.

    Raises:
        DataError: Only some files have a label, which are never left out: accuracy would be that of the others. Or
            labels fit no class; see :func:`edgevit.pixels.class_names.match_classes`.
    """
    bare = [file for file, cell in zip(files, cells, strict=True) if cell is None]
    if len(bare) == len(files):
        return None, None
    if bare:
        have = "has" if len(bare) == 1 else "have"
        raise DataError(
            f"{where}: {len(bare)} of {count_things(len(files), 'image')} {have} no label:\n{format_offenders(bare)}",
            f"give each {what}, or remove these images (a file that was cut short ends so); without any "
            "label all are taken as unlabelled",
        )
    matching = match_classes({cell for cell in cells if cell is not None}, labels, classes, where, "labels")
    return tuple(matching.index_of[cell] for cell in cells if cell is not None), matching
