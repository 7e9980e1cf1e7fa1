"""Keypoints from heatmaps, as transformers' ``post_process_pose_estimation`` of ViTPose reads them.

The maximum of each map, refined by a Newton step on the logarithm of the smoothed map: DARK (Zhang et al., CVPR 2020,
arXiv:1910.06278) in the unbiased form of Huang et al. (CVPR 2020, arXiv:1911.07524).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgevit.pixels.placement import Placement
from edgevit.pixels.warp import find_region
from edgevit.runtime.tasks.answers import Poses
from edgevit.runtime.tasks.sample import Floats

_SIGMA = 0.8
_LEAST, _LARGEST = 0.001, 50.0


def read_keypoints(
    heatmaps: Floats,
    boxes: npt.NDArray[np.float32],
    sides: tuple[int, int],
    *,
    placement: Placement | None = None,
    kernel: int,
    labels: tuple[str, ...] | None,
    edges: tuple[tuple[int, int], ...],
) -> Poses:
    """The keypoints of every box.

    Args:
        heatmaps: ``(P, K, h, w)``: of each box its own.
        boxes: ``(P, 4)``: left, top, right and bottom in the image.
        sides: Height and width of the input.
        placement: Of the image in the input, where the whole image is shown in another way than around its box.
        kernel: Side of the Gaussian that smooths a map.
        labels: Names of the keypoints.
        edges: Pairs of keypoints that a skeleton joins.
    """
    people, points, height, width = heatmaps.shape
    keypoints = np.zeros((people, points, 3), np.float32)
    for person, (maps, box) in enumerate(zip(heatmaps, boxes, strict=True)):
        flat = maps.reshape(points, -1)
        best = flat.argmax(axis=1)
        scores = np.take_along_axis(flat, best[:, None], axis=1)[:, 0]
        places = np.stack([best % width, best // width], axis=1).astype(np.float32)
        refined = places - _find_steps(maps, places.astype(np.int64), kernel).astype(np.float32)
        refined = np.where(scores[:, None] > 0, refined, np.float32(-1))  # where no map says anything
        keypoints[person, :, :2] = _place(refined, (height, width), box, sides, placement)
        keypoints[person, :, 2] = scores
    return Poses(keypoints, boxes, keypoints[..., 2].mean(axis=1), labels, edges)


def _place(
    points: Floats, shape: tuple[int, int], box: Floats, sides: tuple[int, int], placement: Placement | None
) -> npt.NDArray[np.floating]:
    """Points of a map in the image; corner pixels' centres of map, input and box lie on one another."""
    last = np.array([shape[1], shape[0]], np.float32) - np.float32(1)
    if placement is not None:
        inner = points / np.maximum(last, 1) * (np.array([sides[1], sides[0]]) - 1)
        return placement.to_image(inner + 0.5) - 0.5
    region = find_region(box.tolist(), *sides)
    steps = region.extent / np.maximum(last, 1)
    found: Floats = points * steps + region.centre - region.extent * np.float32(0.5)
    return found


def _find_steps(maps: Floats, places: npt.NDArray[np.int64], kernel: int) -> npt.NDArray[np.float64]:
    """What to subtract from the maxima, ``(K, 2)`` as x and y: the Hessian's inverse times the gradient."""
    logs = np.log(np.clip(_smooth(maps, kernel), _LEAST, _LARGEST))
    logs = np.pad(logs, ((0, 0), (1, 1), (1, 1)), mode="edge")
    x, y = places[:, 0] + 1, places[:, 1] + 1
    which = np.arange(len(maps))

    def at(right: int, down: int) -> Floats:
        found: Floats = logs[which, y + down, x + right]
        return found

    middle = at(0, 0)
    gradient = np.stack([0.5 * (at(1, 0) - at(-1, 0)), 0.5 * (at(0, 1) - at(0, -1))], axis=1)
    both = at(1, 1) - at(1, 0) - at(0, 1) + middle + middle - at(-1, 0) - at(0, -1) + at(-1, -1)
    along, down, mixed = at(1, 0) - 2 * middle + at(-1, 0), at(0, 1) - 2 * middle + at(0, -1), 0.5 * both
    tiny = float(np.finfo(np.float32).eps)
    a, b, c = along.astype(np.float64) + tiny, mixed.astype(np.float64), down.astype(np.float64) + tiny
    determinant = a * c - b * b
    flat = determinant == 0  # a map without a peak has no step
    inverse = np.where(flat, 0.0, 1.0 / np.where(flat, 1.0, determinant))
    gx, gy = gradient[:, 0].astype(np.float64), gradient[:, 1].astype(np.float64)
    return np.stack([(c * gx - b * gy) * inverse, (a * gy - b * gx) * inverse], axis=1)


def _smooth(maps: Floats, kernel: int) -> Floats:
    """A Gaussian along both axes; beyond the border a map is mirrored, its last line repeated, as scipy does."""
    reach = kernel // 2
    weights = np.exp(-0.5 / _SIGMA**2 * np.arange(-reach, reach + 1) ** 2.0)
    weights /= weights.sum()
    for axis in (1, 2):
        around: Sequence[tuple[int, int]] = [(reach, reach) if at == axis else (0, 0) for at in range(3)]
        padded = np.pad(maps.astype(np.float64), around, mode="symmetric")
        lines = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=axis)
        maps = (lines @ weights).astype(np.float32)
    return maps
