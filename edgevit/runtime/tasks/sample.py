"""Maps of a model read at an image's own pixels, as torch's ``interpolate`` reads them with ``align_corners=False``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgevit.pixels.placement import Placement

Floats = npt.NDArray[np.float32]

_VALUES_AT_A_TIME = 1 << 22
"""Of a strip of the result: a whole photo with a map for each of 150 classes would need gigabytes."""


@dataclass(frozen=True)
class _Taps:
    """What the lines of a result are made of along one axis.

    Attributes:
        places: ``(n, taps)``: which lines of the map.
        weights: ``(n, taps)``: by which weights.
    """

    places: npt.NDArray[np.int64]
    weights: Floats


@dataclass(frozen=True)
class Grid:
    """Where the pixels of an image lie in a map.

    Attributes:
        at: Along y and x, the place of every row and column, in pixels of the map, whose first centre is 0.
        seen: Along y and x, whether the model saw that row or column at all.
    """

    at: tuple[Floats, Floats]
    seen: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image."""
        return len(self.at[0]), len(self.at[1])


def make_grid(size: tuple[int, int], placement: Placement, sides: tuple[int, int], shape: tuple[int, int]) -> Grid:
    """Where an image's pixels lie in a map.

    Args:
        size: Height and width of the image.
        placement: Of the image in the model's input.
        sides: Height and width of the input.
        shape: Height and width of the map, which covers the whole input.
    """
    at, seen = [], []
    for axis in (0, 1):
        scale, offset = placement.scale[1 - axis], placement.offset[1 - axis]
        ratio = shape[axis] / sides[axis]
        centres = np.arange(size[axis], dtype=np.float32) + np.float32(0.5)
        at.append(np.float32(scale * ratio) * centres + np.float32(offset * ratio - 0.5))
        inside = centres * scale + offset
        seen.append((inside >= 0) & (inside <= sides[axis]))
    return Grid((at[0], at[1]), (seen[0], seen[1]))


def sample_strips(
    maps: Floats, grid: Grid, method: Literal["bilinear", "bicubic"] = "bilinear"
) -> Iterator[tuple[slice, Floats]]:
    """The maps at the image's pixels, some rows at a time.

    Args:
        maps: ``(h, w, C)``.
        grid: Where to read them; outside them the nearest value counts.
        method: torch's interpolation, of which ``bicubic`` is Keys' with a = −0.75.

    Yields:
        Which rows, and their values ``(rows, W, C)``.
    """
    height, width = grid.shape
    rows, columns = (_find_taps(at, size, method) for at, size in zip(grid.at, maps.shape[:2], strict=True))
    step = max(1, _VALUES_AT_A_TIME // max(1, width * maps.shape[2]))
    for first in range(0, height, step):
        part = slice(first, min(first + step, height))
        # only rows that are read are widened, and each once
        yield part, _blend(_blend(maps, rows, part, 0), columns, slice(None), 1)


def sample(maps: Floats, grid: Grid, method: Literal["bilinear", "bicubic"] = "bilinear") -> Floats:
    """As :func:`sample_strips`, whole: ``(H, W, C)``."""
    return np.concatenate([values for _, values in sample_strips(maps, grid, method)])


def resize(maps: Floats, size: tuple[int, int]) -> Floats:
    """Maps ``(h, w, C)`` in another size, bilinear."""
    shape = (maps.shape[0], maps.shape[1])
    placement = Placement((shape[1] / size[1], shape[0] / size[0]), (0.0, 0.0))
    return maps if shape == size else sample(maps, make_grid(size, placement, shape, shape))


def _find_taps(at: Floats, size: int, method: str) -> _Taps:
    if method == "bilinear":
        at = np.clip(at, 0, size - 1)
        low = np.floor(at).astype(np.int64)
        share = at - low.astype(np.float32)
        places = np.stack([low, low + 1], axis=1)
        weights = np.stack([1 - share, share], axis=1)
    else:
        low = np.floor(at).astype(np.int64)
        share = at - low.astype(np.float32)
        places = low[:, None] + np.arange(-1, 3)
        weights = np.stack([_cube_far(share + 1), _cube_near(share), _cube_near(1 - share), _cube_far(2 - share)], 1)
    return _Taps(np.clip(places, 0, size - 1), weights.astype(np.float32))


def _cube_near(x: Floats) -> Floats:
    """Keys' cubic convolution with a = −0.75 up to one pixel away, as torch writes it."""
    a = np.float32(-0.75)
    return ((a + 2) * x - (a + 3)) * x * x + 1


def _cube_far(x: Floats) -> Floats:
    a = np.float32(-0.75)
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a


def _blend(maps: Floats, taps: _Taps, part: slice, axis: int) -> Floats:
    shape = [1, 1, 1]
    shape[axis] = -1
    places, weights = taps.places[part], taps.weights[part]
    total = np.take(maps, places[:, 0], axis) * weights[:, 0].reshape(shape)
    for tap in range(1, places.shape[1]):
        total += np.take(maps, places[:, tap], axis) * weights[:, tap].reshape(shape)
    return total
