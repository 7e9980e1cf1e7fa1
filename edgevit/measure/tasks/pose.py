"""How well keypoints keep to labels, and to the float model's: PCK, mean distance, and COCO's OKS-AP.

PCK is the share of keypoints that are found within a twentieth of the longer side of the box (Yang and Ramanan 2013,
with the threshold that is usual for boxes). OKS-AP is COCO's, with its spreads of 17 keypoints; for other numbers of
keypoints there are no spreads, and only PCK is counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgevit.measure.tasks.coco import Annotation, compute_average_precision, require_coco

if TYPE_CHECKING:
    from edgevit.pixels.truths import PoseTruth
    from edgevit.runtime.tasks.answers import Poses

_NEAR = 0.05
_COCO_KEYPOINTS = 17
SEEN = 0.3
"""The score from which on a keypoint of the float model counts as seen: what its demonstrations draw."""


class PoseMeter:
    """PCK and OKS-AP against labelled keypoints, one image at a time.

    The answers are those to the labelled boxes, in their order: what is judged is where the keypoints of a person are,
    not how persons are found.

    Args:
        keypoints: K.

    Raises:
        MissingPackageError: There are 17 keypoints, and pycocotools is not installed.
    """

    def __init__(self, keypoints: int) -> None:
        self._ranked = keypoints == _COCO_KEYPOINTS
        if self._ranked:
            require_coco("OKS-AP")
        self.images = 0
        self._near = self._labelled = 0
        self._truths: list[Annotation] = []
        self._found: list[Annotation] = []

    def update(self, found: Poses, wanted: PoseTruth) -> None:
        """Count an image.

        Raises:
            ValueError: There are other numbers of persons or of keypoints than wanted.
        """
        _check_shapes(found.keypoints, wanted.keypoints)
        labelled = (wanted.keypoints[..., 2] > 0) & ~wanted.crowd[:, None]
        near = _measure_distances(found.keypoints, wanted.keypoints) <= _NEAR * _measure_sides(wanted.boxes)
        self._near += int(near[labelled].sum())
        self._labelled += int(labelled.sum())
        if self._ranked:
            self._list(found, wanted)
        self.images += 1

    def _list(self, found: Poses, wanted: PoseTruth) -> None:
        for keypoints, box, area, crowd in zip(wanted.keypoints, wanted.boxes, wanted.areas, wanted.crowd, strict=True):
            left, top, right, bottom = (float(side) for side in box)
            self._truths.append(
                {
                    "image_id": self.images,
                    "category_id": 0,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": float(area),
                    "iscrowd": int(crowd),
                    "keypoints": keypoints.astype(np.float64).ravel().tolist(),
                    "num_keypoints": int((keypoints[:, 2] > 0).sum()),
                }
            )
        for keypoints, score in zip(found.keypoints, found.scores, strict=True):
            place = keypoints.astype(np.float64).ravel().tolist()
            self._found.append({"image_id": self.images, "category_id": 0, "keypoints": place, "score": float(score)})

    def result(self) -> dict[str, float]:
        """The figures so far, by their keys of :mod:`edgevit.core.report.task_figures`; none without labels."""
        figures: dict[str, float] = {}
        if self._ranked:
            found = compute_average_precision(self._truths, self._found, self.images, "keypoints")
            if found is not None:
                figures |= {"oks_ap_percent": 100 * found[0], "oks_ap50_percent": 100 * found[1]}
        if self._labelled:
            figures["pck_percent"] = 100 * self._near / self._labelled
        return figures


class PoseAgreement:
    """PCK and the mean distance against the float model's keypoints of a score of :data:`SEEN` or more."""

    def __init__(self) -> None:
        self.images = self._near = self._seen = 0
        self._distance = 0.0

    def update(self, found: Poses, wanted: Poses) -> None:
        """Count an image: the engine's answer and the float model's, to the same boxes.

        Raises:
            ValueError: There are other numbers of persons or of keypoints than wanted.
        """
        _check_shapes(found.keypoints, wanted.keypoints)
        seen = wanted.keypoints[..., 2] >= SEEN
        distances = _measure_distances(found.keypoints, wanted.keypoints)
        self._near += int((distances <= _NEAR * _measure_sides(wanted.boxes))[seen].sum())
        self._distance += float(distances[seen].sum())
        self._seen += int(seen.sum())
        self.images += 1

    def result(self) -> dict[str, float]:
        """The figures so far; none where the float model sees no keypoint."""
        if not self._seen:
            return {}
        return {
            "kept_pck_percent": 100 * self._near / self._seen,
            "kept_distance_px": self._distance / self._seen,
        }


def join_poses(parts: Sequence[Any]) -> Any:
    """The people of several ``Poses``, or of several ``PoseTruth``, as those of one image; ``None`` of ``None``."""
    first = parts[0]
    if first is None:
        return None
    arrays = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in dataclasses.fields(first)
        if isinstance(getattr(first, field.name), np.ndarray)
    }
    return dataclasses.replace(first, **arrays)


def _check_shapes(found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> None:
    if found.shape != wanted.shape:
        raise ValueError(f"keypoints of shape {found.shape} for some of {wanted.shape}")


def _measure_distances(found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """In pixels, ``(P, K)``."""
    between = found[..., :2].astype(np.float64) - wanted[..., :2].astype(np.float64)
    return np.hypot(between[..., 0], between[..., 1])


def _measure_sides(boxes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The longer side of each box in pixels, ``(P, 1)``."""
    sides: npt.NDArray[np.float64] = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64).max(axis=1, initial=0)[:, None]
    return sides
