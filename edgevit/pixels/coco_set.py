"""list_coco: what the images of a COCO file show: boxes, keypoints, or the class of every pixel."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevit.core.errors import DataError, format_offenders
from edgevit.core.packages import require_package
from edgevit.core.task import TaskName
from edgevit.pixels.class_names import Matching, match_classes
from edgevit.pixels.coco_file import CocoFile, CocoImage, read_coco
from edgevit.pixels.images import Box, ImageSet
from edgevit.pixels.truths import NO_CLASS, BoxTruth, PoseTruth, Truth


@dataclass(frozen=True, eq=False)
class CocoTruths:
    """What the images of a COCO file show; a :class:`edgevit.pixels.truths.Truths`.

    Attributes:
        images: Of pose, with one annotation each.
        task: ``segment``, ``detect`` or ``pose``.
        index_of: Class index by the file's number of a category.
        background: Of segment: the class of pixels without an annotation.
    """

    images: tuple[CocoImage, ...]
    task: TaskName
    index_of: Mapping[int, int]
    background: int = NO_CLASS

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> Truth:
        """What an image shows."""
        image = self.images[index]
        if self.task == "segment":
            return self._draw(image)
        found = [annotation for annotation in image.annotations if "bbox" in annotation]
        boxes = np.array([_read_box(annotation) for annotation in found], np.float32).reshape(-1, 4)
        areas = np.array([a.get("area", a["bbox"][2] * a["bbox"][3]) for a in found], np.float64)
        crowd = np.array([bool(annotation.get("iscrowd", 0)) for annotation in found], bool)
        if self.task == "detect":
            classes = np.array([self.index_of[annotation["category_id"]] for annotation in found], np.int32)
            return BoxTruth(boxes, classes, areas, crowd)
        points = np.array([annotation["keypoints"] for annotation in found], np.float32)
        return PoseTruth(points.reshape(len(found), -1, 3), boxes, areas, crowd)

    def _draw(self, image: CocoImage) -> npt.NDArray[np.int32]:
        """The class of every pixel; none where two classes claim one, as torchvision's reference has it."""
        mask = require_package("pycocotools.mask", "drawing the masks of a COCO file", extra="coco")
        assert image.size is not None  # find_fault has seen it
        height, width = image.size
        classes = np.full(image.size, NO_CLASS, np.int32)
        claimed = np.zeros(image.size, bool)
        for annotation in image.annotations:
            outline = annotation.get("segmentation")
            if not outline:
                continue
            if isinstance(outline, list):
                outline = mask.merge(mask.frPyObjects(outline, height, width))
            elif isinstance(outline.get("counts"), list):
                outline = mask.frPyObjects(outline, height, width)
            inside = mask.decode(outline).astype(bool)
            label = self.index_of[annotation["category_id"]]
            torn = inside & claimed & (classes != label)
            classes[inside] = label
            classes[torn] = NO_CLASS
            claimed |= inside
        classes[~claimed] = self.background
        return classes

    def find_fault(self, index: int, size: tuple[int, int]) -> str | None:
        """Why the annotations do not fit an image of that height and width."""
        said = self.images[index].size
        if said is not None and said != size:
            return f"was annotated with {said[1]} × {said[0]} pixels, and upright it has {size[1]} × {size[0]}"
        if self.task != "segment":
            return None
        if said is None:
            return "has no height and width in the file, which its masks need"
        bad = [a.get("id") for a in self.images[index].annotations if not _can_draw(a.get("segmentation"), said)]
        return f"has masks that are neither polygons nor runs of its pixels: annotations {bad}" if bad else None

    def fingerprint(self, index: int) -> str:
        """Of the annotations and of the classes that they are taken for."""
        text = json.dumps([list(self.images[index].annotations), sorted(self.index_of.items()), self.background])
        return hashlib.sha256(text.encode()).hexdigest()

    def pick(self, indices: Sequence[int]) -> CocoTruths:
        """Those of some images."""
        return replace(self, images=tuple(self.images[i] for i in indices))


def list_coco(
    path: Path, task: TaskName, labels: Sequence[str] | None, classes: int | None
) -> tuple[ImageSet, list[tuple[str, str]]]:
    """The images of a COCO file with what they show; nothing is decoded yet.

    Args:
        path: The file.
        task: ``segment``: from the annotations' masks. ``detect``: boxes. ``pose``: every annotation with keypoints by
            itself.
        labels: The model's class names, by index; of pose its keypoints'.
        classes: How many classes or keypoints the model has, where that is known.

    Returns:
        The set, and (what, reason) of everything in the file that contradicts itself.

    Raises:
        DataError: It is no COCO file, its categories are not the model's classes, or it has nothing of this task.
        MissingPackageError: There are masks, and pycocotools is not installed.
    """
    found = read_coco(path)
    offenders = list(found.offenders)
    if task == "pose":
        return _list_poses(path, found, classes), offenders
    wanted = "segmentation" if task == "segment" else "bbox"
    if not any(annotation.get(wanted) for image in found.images for annotation in image.annotations):
        raise DataError(f"{path} has no {'masks' if task == 'segment' else 'boxes'}", "give annotations of this task")
    if task == "segment":
        require_package("pycocotools.mask", f"reading the masks of {path}", extra="coco")
    elif task == "detect":
        offenders += [
            (f"annotation {annotation.get('id')}", "has no box")
            for image in found.images
            for annotation in image.annotations
            if "bbox" not in annotation
        ]
    matching, index_of = _match(path, found, labels, classes)
    background = next((i for i, label in enumerate(labels or ()) if label.casefold() == "background"), NO_CLASS)
    truths = CocoTruths(found.images, task, index_of, background)
    files = tuple(image.file for image in found.images)
    return ImageSet(found.root, files, matching=matching, source=str(path), truths=truths), offenders


def _match(
    path: Path, found: CocoFile, labels: Sequence[str] | None, classes: int | None
) -> tuple[Matching, dict[int, int]]:
    """Categories by name; where the model has no names, by their numbers."""
    names = {number: category["name"] for number, category in found.categories.items()}
    if labels is None:
        beyond = [f"{number}: {name}" for number, name in names.items() if classes is not None and number >= classes]
        if beyond:
            raise DataError(
                f"{path}: {len(beyond)} of {len(names)} categories have a number that is no class of the model's "
                f"{classes}, which have no names:\n{format_offenders(beyond)}",
                "number the categories as the model does, from 0",
            )
        own = {number: number for number in names}
        return Matching({names[n]: n for n in names}, "matched by the categories' numbers"), own
    matching = match_classes(names.values(), labels, classes, path, "categories")
    return matching, {number: matching.index_of[name] for number, name in names.items()}


def _list_poses(path: Path, found: CocoFile, keypoints: int | None) -> ImageSet:
    """One image for every person with keypoints: what the model is shown is the person's box."""
    persons, files, boxes = [], [], []
    wrong = []
    for image in found.images:
        for annotation in image.annotations:
            points = annotation.get("keypoints", ())
            if annotation.get("iscrowd") or not any(points[2::3]) or "bbox" not in annotation:
                continue
            if keypoints is not None and len(points) != 3 * keypoints:
                wrong.append(f"{image.file}: annotation {annotation.get('id')} has {len(points) // 3}")
            persons.append(replace(image, annotations=(annotation,)))
            files.append(image.file)
            boxes.append(_read_box(annotation))
    if wrong:
        raise DataError(
            f"{path}: {len(wrong)} annotations have not the model's {keypoints} keypoints:\n{format_offenders(wrong)}",
            "give annotations of this model's keypoints",
        )
    if not persons:
        raise DataError(f"{path} has no keypoints", "give annotations with keypoints and boxes")
    truths = CocoTruths(tuple(persons), "pose", {})
    return ImageSet(found.root, tuple(files), source=str(path), truths=truths, boxes=tuple(boxes))


def _can_draw(outline: Any, size: tuple[int, int]) -> bool:
    """Whether it is a list of polygons, or run lengths of the image; or nothing."""
    if not outline:
        return True
    if isinstance(outline, list):
        return all(
            isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0 and _are_numbers(polygon)
            for polygon in outline
        )
    if not isinstance(outline, dict) or outline.get("size") != list(size):
        return False
    counts = outline.get("counts")
    if isinstance(counts, list):
        return all(type(count) is int and count >= 0 for count in counts) and sum(counts) == size[0] * size[1]
    return isinstance(counts, str)


def _are_numbers(values: list[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _read_box(annotation: Mapping[str, Any]) -> Box:
    left, top, width, height = (float(side) for side in annotation["bbox"])
    return left, top, left + width, top + height
