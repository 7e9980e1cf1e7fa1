"""How well the classes of pixels keep to labels, and to the float model's classes: one streaming confusion matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgevit.core.report.task_figures import KEPT

if TYPE_CHECKING:
    from edgevit.runtime.tasks.answers import Segmentation


class ConfusionMatrix:
    """Pixels by true and found class, one image at a time; memory grows with the number of classes only.

    Args:
        classes: K. Pixels whose true class is outside 0 to K − 1 do not count, 255 among them where K is not above it,
            nor those of the found class −1, which the model was not shown.
    """

    def __init__(self, classes: int) -> None:
        self._counts = np.zeros((classes, classes), np.int64)

    def add(self, found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> None:
        """Count the pixels of an image: ``(H, W)`` whole numbers each.

        Raises:
            ValueError: The two have not one size, or a class was found that there is not.
        """
        if found.shape != wanted.shape:
            raise ValueError(f"classes of shape {found.shape} for a map of {wanted.shape}")
        classes = len(self._counts)
        if found.max(initial=0) >= classes:
            raise ValueError(f"class {found.max()} was found, and there are {classes}")
        judged = (wanted >= 0) & (wanted < classes) & (found >= 0)
        pairs = np.bincount(
            wanted[judged].astype(np.int64) * classes + found[judged].astype(np.int64), minlength=self._counts.size
        )
        self._counts += pairs.reshape(self._counts.shape)

    @property
    def pixel_accuracy(self) -> float | None:
        """Share of the judged pixels whose class was found; ``None`` without any."""
        total = int(self._counts.sum())
        return float(np.trace(self._counts)) / total if total else None

    @property
    def mean_iou(self) -> float | None:
        """Intersection over union, averaged over the classes that occur in either; ``None`` without any."""
        right = np.diagonal(self._counts).astype(np.float64)
        union = self._counts.sum(axis=1) + self._counts.sum(axis=0) - right
        occurs = union > 0
        return float(np.mean(right[occurs] / union[occurs])) if occurs.any() else None


class SegmentationMeter:
    """Figures against maps of classes, one image at a time.

    Args:
        classes: How many there are.
    """

    def __init__(self, classes: int) -> None:
        self.images = 0
        self._matrix = ConfusionMatrix(classes)

    def update(self, found: Segmentation, wanted: npt.NDArray[Any]) -> None:
        """Count an image; ``wanted``: ``(H, W)`` class indices, −1 or 255 where there is none.

        Raises:
            ValueError: The two have not one size.
        """
        self._matrix.add(found.classes, wanted)
        self.images += 1

    def result(self) -> dict[str, float]:
        """The figures so far, by their keys of :mod:`edgevit.core.report.task_figures`; none without judged pixels."""
        return _name_figures(self._matrix, "", "pixel_accuracy_percent")


class SegmentationAgreement:
    """Figures against the float model's classes, one image at a time; pixels to which it gives none do not count.

    Args:
        classes: How many there are.
    """

    def __init__(self, classes: int) -> None:
        self.images = 0
        self._matrix = ConfusionMatrix(classes)

    def update(self, found: Segmentation, wanted: Segmentation) -> None:
        """Count an image: the engine's answer and the float model's, of the same size."""
        self._matrix.add(found.classes, wanted.classes)
        self.images += 1

    def result(self) -> dict[str, float]:
        """The figures so far; none where the float model gives no class to any pixel."""
        return _name_figures(self._matrix, KEPT, "kept_pixels_percent")


def _name_figures(matrix: ConfusionMatrix, beginning: str, pixels: str) -> dict[str, float]:
    accuracy, mean_iou = matrix.pixel_accuracy, matrix.mean_iou
    if accuracy is None or mean_iou is None:
        return {}
    return {pixels: 100 * accuracy, f"{beginning}miou_percent": 100 * mean_iou}
