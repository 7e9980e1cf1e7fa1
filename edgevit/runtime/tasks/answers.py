"""What a whole model answers to an image, in the image's own pixels.

A place in the image is measured in pixels from its upper left corner: the first pixel reaches from 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Depth:
    """How far away every pixel is.

    Attributes:
        depth: ``(H, W) float32``: metres where ``metric``, otherwise relative, as the origin has it: DepthAnything and
            DPT give inverse depth, so that larger is nearer.
        metric: Whether ``depth`` is in metres.
    """

    depth: npt.NDArray[np.float32]
    metric: bool = False


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What every pixel belongs to.

    Attributes:
        classes: ``(H, W) int32``: indices of classes; -1 for none.
        labels: Their names by index.
    """

    classes: npt.NDArray[np.int32]
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found where, by falling score.

    Attributes:
        boxes: ``(N, 4) float32``: left, top, right and bottom.
        scores: ``(N,) float32`` from 0 to 1.
        classes: ``(N,) int32``: indices of classes.
        labels: Their names by index.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int32]
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Poses:
    """The keypoints of every person or thing.

    Attributes:
        keypoints: ``(P, K, 3) float32``: x, y and score.
        boxes: ``(P, 4) float32``: left, top, right and bottom of what was asked about.
        scores: ``(P,) float32``: mean of the keypoints' scores.
        labels: Names of the keypoints by index.
        edges: Pairs of keypoints that a skeleton joins.
    """

    keypoints: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: tuple[str, ...] | None = None
    edges: tuple[tuple[int, int], ...] = ()


DenseAnswer: TypeAlias = Depth | Segmentation | Detections | Poses
