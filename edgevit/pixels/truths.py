"""What the labelled images of depth, segment, detect or pose show, in the pixels of the upright image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

NO_CLASS = -1
"""In a map of classes, a pixel that does not count."""


@dataclass(frozen=True, eq=False)
class BoxTruth:
    """The boxes of an image.

    Attributes:
        boxes: ``(N, 4) float32``: left, top, right and bottom.
        classes: ``(N,) int32``: indices of the model's classes.
        areas: ``(N,) float64``: of the object in pixels, which is less than its box's.
        crowd: ``(N,) bool``: whether it is a crowd, in which nothing found is wrong.
    """

    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int32]
    areas: npt.NDArray[np.float64]
    crowd: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PoseTruth:
    """The keypoints of an image's persons or things.

    Attributes:
        keypoints: ``(P, K, 3) float32``: x, y, and 0 where it is not labelled, 1 hidden, 2 visible.
        boxes: ``(P, 4) float32``: left, top, right and bottom.
        areas: ``(P,) float64``: in pixels.
        crowd: ``(P,) bool``.
    """

    keypoints: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    areas: npt.NDArray[np.float64]
    crowd: npt.NDArray[np.bool_]


Truth: TypeAlias = "npt.NDArray[Any] | BoxTruth | PoseTruth"
"""``(H, W)`` distances in metres, 0 where there is none, or classes, :data:`NO_CLASS` where there is none; or boxes, or
keypoints."""


class Truths(Protocol):
    """What all images of a set show, in its order; maps are read when they are asked for."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Truth:
        """What an image shows.

        Raises:
            DataError: Its map cannot be read.
        """
        ...

    def find_fault(self, index: int, size: tuple[int, int]) -> str | None:
        """What is wrong with it, for an image of that height and width; ``None`` where it can be used."""
        ...

    def fingerprint(self, index: int) -> str:
        """Another text for another content."""
        ...

    def pick(self, indices: Sequence[int]) -> Truths:
        """Those of some images."""
        ...
