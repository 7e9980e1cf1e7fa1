"""How well boxes keep to labels, and to the float model's boxes: COCO's AP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgevit.measure.tasks.coco import MOST_BOXES, Annotation, compute_average_precision, require_coco
from edgevit.pixels.truths import BoxTruth

if TYPE_CHECKING:
    from edgevit.runtime.tasks.answers import Detections

SURE = 0.5
"""The score above which a float model's box is taken for the truth, unless its bundle says what counts as found."""


class DetectionMeter:
    """AP against labelled boxes, one image at a time; boxes are kept until the end, images are not.

    AP looks at what is found with any score, so the answers must not be cut at one.

    Raises:
        MissingPackageError: pycocotools is not installed.
    """

    def __init__(self) -> None:
        require_coco("the AP of boxes")
        self.images = 0
        self._truths: list[Annotation] = []
        self._found: list[Annotation] = []

    def update(self, found: Detections, wanted: BoxTruth) -> None:
        """Count an image."""
        for box, label, area, crowd in zip(wanted.boxes, wanted.classes, wanted.areas, wanted.crowd, strict=True):
            truth = self._describe(box, label)
            self._truths.append({**truth, "area": float(area), "iscrowd": int(crowd)})
        best = np.argsort(-found.scores, kind="stable")[:MOST_BOXES]
        for box, label, score in zip(found.boxes[best], found.classes[best], found.scores[best], strict=True):
            self._found.append({**self._describe(box, label), "score": float(score)})
        self.images += 1

    def _describe(self, box: npt.NDArray[Any], label: int) -> Annotation:
        left, top, right, bottom = (float(side) for side in box)
        return {
            "image_id": self.images,
            "category_id": int(label),
            "bbox": [left, top, right - left, bottom - top],
        }

    def result(self) -> dict[str, float]:
        """The figures so far, by their keys of :mod:`edgevit.core.report.task_figures`; none without labelled boxes."""
        found = compute_average_precision(self._truths, self._found, self.images, "bbox")
        return {} if found is None else {"ap_percent": 100 * found[0], "ap50_percent": 100 * found[1]}


class DetectionAgreement:
    """AP with the float model's boxes that count as found for the truth, one image at a time.

    Args:
        sure: The score above which they do.

    Raises:
        MissingPackageError: pycocotools is not installed.
    """

    def __init__(self, sure: float = SURE) -> None:
        self._meter = DetectionMeter()
        self._sure = sure

    @property
    def images(self) -> int:
        """Those that were counted."""
        return self._meter.images

    def update(self, found: Detections, wanted: Detections) -> None:
        """Count an image: the engine's answer and the float model's, both with boxes of any score."""
        sure = wanted.scores > self._sure
        boxes = wanted.boxes[sure]
        areas = np.prod((boxes[:, 2:] - boxes[:, :2]).astype(np.float64), axis=1)
        self._meter.update(found, BoxTruth(boxes, wanted.classes[sure], areas, np.zeros(len(boxes), bool)))

    def result(self) -> dict[str, float]:
        """The figures so far; none where the float model is sure of no box."""
        return {f"kept_{name}": value for name, value in self._meter.result().items()}
