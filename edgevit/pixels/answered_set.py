"""read_answered: images for depth, segment, detect and pose, labelled where a COCO file or maps say what they show."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgevit.core.errors import DataError
from edgevit.core.task import TaskName
from edgevit.pixels.coco_set import list_coco
from edgevit.pixels.images import ImageSet
from edgevit.pixels.map_set import is_map_set, list_maps

LABELLED_FORMS: Mapping[TaskName, str] = {
    "depth": "a folder with the folders images and maps",
    "segment": "a folder with the folders images and maps, or a COCO file",
    "detect": "a COCO file",
    "pose": "a COCO file",
}
"""What says what images show."""


def read_answered(
    path: str | os.PathLike[str],
    task: TaskName,
    *,
    labels: Sequence[str] | None = None,
    classes: int | None = None,
    skip_bad: bool = False,
) -> ImageSet:
    """List the images of a set; no image is opened yet, see :meth:`edgevit.pixels.images.ImageSet.check`.

    A ``.json`` is a COCO file; a folder with ``images`` and ``maps``, or with ``maps.toml``, is images with their maps.
    What :meth:`ImageSet.read` takes is a set without labels here: a class an image says nothing of such answers.

    Args:
        path: The folder or the file.
        task: ``depth``, ``segment``, ``detect`` or ``pose``.
        labels: The model's names of classes, of pose of keypoints.
        classes: How many there are, where that is known.
        skip_bad: Leave out images without a map and annotations that contradict themselves, instead of refusing.

    Raises:
        DataError: Listing everything that is wrong with the set.
        MissingPackageError: There are masks, and pycocotools is not installed.
    """
    source = Path(path)
    if source.suffix.lower() == ".json":
        if task == "depth":
            raise DataError(f"{source}: a COCO file has no distances", f"give {LABELLED_FORMS[task]}")
        images, offenders = list_coco(source, task, labels, classes)
    elif source.is_dir() and is_map_set(source):
        if task not in ("depth", "segment"):
            raise DataError(f"{source} holds maps, which say nothing of {task}", f"give {LABELLED_FORMS[task]}")
        images, offenders = list_maps(source, "depth" if task == "depth" else "segment", classes)
    else:
        return ImageSet.read(source, labelled=False, skip_bad=skip_bad)
    return images.settle(offenders, skip_bad=skip_bad)
