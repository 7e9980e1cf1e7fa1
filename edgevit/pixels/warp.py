"""The part of an image around a box, sampled to a model's input, as ViTPose's processor does it.

The box grows to the input's aspect ratio and by a quarter, and its corner pixels' centres become those of the input
(Huang et al., The Devil is in the Details, CVPR 2020, arXiv:1911.07524). Bilinear, without antialiasing; what lies
outside the image has the colour of the padding. transformers computes it with scipy, from which it differs nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgevit.pixels.placement import Placement

_GROWTH = 1.25
_UNIT = 200.0
"""Pixels that the publisher counts scales in: in float32, so that it is part of the rounding."""


@dataclass(frozen=True)
class Region:
    """The part of an image that fills the input.

    Attributes:
        centre: ``(2,) float32``: x and y.
        scale: ``(2,) float32``: width and height ÷ 200 pixels.
    """

    centre: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]

    @property
    def extent(self) -> npt.NDArray[np.float32]:
        """Width and height in pixels, ``(2,) float32``."""
        return self.scale * np.float32(_UNIT)

    def place(self, height: int, width: int) -> Placement:
        """Where the image lies in an input of this size."""
        scale, shift = _find_steps(self, height, width)
        # shifts are between the centres of pixels, which lie half a pixel behind their corners
        x, y = (float(shift[axis] + 0.5 - 0.5 * scale[axis]) for axis in (0, 1))
        return Placement((float(scale[0]), float(scale[1])), (x, y))


def find_region(box: Sequence[float], height: int, width: int) -> Region:
    """What is seen of a box, (left, top, right, bottom), in an input of this size."""
    left, top = float(box[0]), float(box[1])
    wide, high = float(box[2]) - left, float(box[3]) - top
    ratio = width / height
    centre = np.array([left + wide * 0.5, top + high * 0.5], np.float32)
    if wide > ratio * high:
        high = wide * 1.0 / ratio
    elif wide < ratio * high:
        wide = high * ratio
    return Region(centre, np.array([wide / _UNIT, high / _UNIT], np.float32) * np.float32(_GROWTH))


def _find_steps(region: Region, height: int, width: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Factor and shift from a pixel's number in the image to that in the input, along x and y, in float32's values."""
    scale = (np.array([width, height], np.float64) - 1.0) / region.extent
    middle = region.centre * np.float32(2.0)
    shift = scale * (np.float32(-0.5) * middle + np.float32(0.5) * region.extent)
    return scale.astype(np.float32).astype(np.float64), shift.astype(np.float32).astype(np.float64)


def warp(picture: Image.Image, region: Region, height: int, width: int, fill: Sequence[int]) -> npt.NDArray[np.uint8]:
    """The region as an input, ``(height, width, 3) uint8``."""
    pixels: npt.NDArray[Any] = np.asarray(picture)
    scale, shift = _find_steps(region, height, width)
    known = []
    for axis, size in ((1, height), (0, width)):
        back = 1.0 / scale[axis]
        at = np.arange(size) * back - shift[axis] * back
        last = pixels.shape[1 - axis] - 1
        inside = (at >= 0) & (at <= last)
        low = np.floor(np.where(inside, at, 0.0)).astype(np.int64)
        share = np.where(inside, at - low, 0.0)
        known.append((inside, (low, np.minimum(low + 1, last)), (1.0 - share, share)))
    (rows, above, down), (columns, beside, across) = known
    total = np.zeros((height, width, 3))
    for row, weight in zip(above, down, strict=True):
        line = pixels[row].astype(np.float64) * weight[:, None, None]
        for column, share in zip(beside, across, strict=True):
            total += line[:, column] * share[:, None]
    outside = ~(rows[:, None] & columns[None])
    found = np.clip(np.floor(total + 0.5), 0, 255).astype(np.uint8)
    found[outside] = np.asarray(fill, np.uint8)
    return found
