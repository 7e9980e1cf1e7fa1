"""Resizing as the references do it, to the last bit.

Two programs that call their filter ``bicubic, antialiased`` differ by a grey level on most photos: they round in other
places. A grey level is enough to change some answers in a thousand, so a bundle resizes as the model's publisher does.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
Kernel = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]

Box = tuple[int, int, int, int]

_OUTPUTS_AT_A_TIME = 16
"""They share a product with their inputs: fewer, and calls cost; more, and most weights are zero."""


def resample_pillow(
    picture: Image.Image, width: int, height: int, interpolation: str, box: Box | None = None
) -> Image.Image:
    """One ``resize`` of Pillow 13, in two calls that mean the same to older versions.

    Args:
        picture: RGB.
        width: Of the whole result.
        height: Likewise.
        interpolation: A filter of Pillow's.
        box: The part of the result that is wanted, (left, top, right, bottom); by default all of it. Lines that it
            does not depend on are left out, as far as Pillow computes the others alike: the ``box`` of its own
            ``resize`` is kept in float32, and would change some pixels.
    """
    kernel = Image.Resampling[interpolation.upper()]
    box = box or (0, 0, width, height)
    if kernel == Image.Resampling.NEAREST:  # a single pass
        return picture.resize((width, height), kernel).crop(box)
    fewer_rows, fewer_columns = picture.height - height, picture.width - width
    vertical_first = fewer_rows > 0 and fewer_rows > 2 * fewer_columns
    old, new, begin, end = picture.size, (width, height), box[:2], box[2:]
    first, second = (1, 0) if vertical_first else (0, 1)  # axis 0 is along a row
    across = end[first] - begin[first]

    def put(along: int, other: int) -> tuple[int, int]:
        """(x, y) of a place along the second axis and one along the first."""
        return (along, other) if second == 0 else (other, along)

    low, high = _find_inputs(old[second], new[second], begin[second], end[second], SUPPORTS[interpolation])
    if high - low < old[second]:
        picture = picture.crop((*put(low, 0), *put(high, old[first])))
    picture = picture.resize(put(high - low, new[first]), kernel)
    if across < new[first]:
        picture = picture.crop((*put(0, begin[first]), *put(high - low, end[first])))
    if high - low < old[second]:  # back to its place, as the weights of the second pass depend on it
        whole = Image.new(picture.mode, put(old[second], across))
        whole.paste(picture, put(low, 0))
        picture = whole
    picture = picture.resize(put(new[second], across), kernel)
    return picture.crop((*put(begin[second], 0), *put(end[second], across)))


def _find_inputs(old: int, new: int, begin: int, end: int, support: float) -> tuple[int, int]:
    """From and to which of ``old`` inputs the outputs ``begin`` to ``end`` of ``new`` read; one more at either side."""
    scale = old / new
    reach = support * max(scale, 1.0) + 1
    return max(0, math.floor((begin + 0.5) * scale - reach)), min(old, math.ceil((end - 0.5) * scale + reach))


def resample_torch(
    picture: Image.Image, width: int, height: int, interpolation: str, box: Box | None = None
) -> Image.Image:
    """torch's antialiased resize of uint8 tensors, which torchvision and transformers call; bit for bit.

    The horizontal pass comes first, each pass rounds to 8 bits, and the weights are 16-bit integers with as many
    fractional bits as the largest of them allows. Filters that torch does not have go through Pillow. Arguments are
    those of :func:`resample_pillow`; nothing outside the box is computed.
    """
    if interpolation not in KERNELS:
        return resample_pillow(picture, width, height, interpolation, box)
    left, top, right, bottom = box or (0, 0, width, height)
    across = _weigh(picture.width, width, left, right, interpolation)
    down = _weigh(picture.height, height, top, bottom, interpolation)
    result = np.empty((bottom - top, right - left, 3), np.uint8)
    for channel, plane in enumerate(picture.split()):  # so that a row's values lie side by side
        rows = np.asarray(plane)[down.first : down.last]
        columns = across.apply(rows.T[across.first : across.last])
        result[..., channel] = down.apply(columns.T)
    return Image.fromarray(result)


@dataclass(frozen=True)
class _Pass:
    """One pass of a resize.

    Attributes:
        first: The first input that is read.
        last: The input behind the last one.
        blocks: From and to which input, counted from ``first``, and the weights of some outputs for them; none where
            nothing is resized.
        precision: Fractional bits of the weights.
    """

    first: int
    last: int
    blocks: tuple[tuple[int, int, npt.NDArray[Any]], ...] = ()
    precision: int = 0

    def apply(self, lines: Pixels) -> Pixels:
        """``(last - first, m) uint8`` to ``(outputs, m) uint8``."""
        if not self.blocks:
            return lines
        found = []
        for low, high, weights in self.blocks:
            total = weights @ lines[low:high].astype(weights.dtype)
            total += 1 << (self.precision - 1)
            total *= 0.5**self.precision
            np.floor(total, out=total)
            found.append(np.clip(total, 0, 255, out=total).astype(np.uint8))
        return np.concatenate(found)


def _weigh(old: int, new: int, begin: int, end: int, interpolation: str) -> _Pass:
    """The pass from ``old`` lines to those from ``begin`` to ``end`` of ``new``."""
    if old == new:
        return _Pass(begin, end)
    starts, weights, precision = integer_weights(old, new, interpolation)
    starts, weights = starts[begin:end], weights[begin:end]
    taps = weights.shape[1]
    first, last = int(starts[0]), min(int(starts[-1]) + taps, old)
    # Sums of integers are exact below 2²⁴ in float32 and below 2⁵³ in float64, in whatever order BLAS adds them.
    largest = 255 * int(np.abs(weights).sum(axis=1).max()) + (1 << precision)
    blocks = []
    for at in range(0, end - begin, _OUTPUTS_AT_A_TIME):
        block = slice(at, at + _OUTPUTS_AT_A_TIME)
        low = int(starts[block][0])
        high = int(starts[block][-1]) + taps
        matrix = np.zeros((len(starts[block]), high - low), np.float32 if largest < 1 << 24 else np.float64)
        places = starts[block, None] - low + np.arange(taps)
        np.put_along_axis(matrix, places, weights[block].astype(matrix.dtype), axis=1)
        high = min(high, old)  # beyond are weights of zero alone
        blocks.append((low - first, high - first, matrix[:, : high - low]))
    return _Pass(first, last, tuple(blocks), precision)


def resample_plain(picture: Image.Image, width: int, height: int, box: Box | None = None) -> Image.Image:
    """Bilinear interpolation without antialiasing, as TensorFlow's and Keras' ``resize`` has it by default.

    The place of a pixel is that of its centre; beyond the border the nearest pixel counts. Halves round to even. The
    box is as of :func:`resample_pillow`.
    """
    left, top, right, bottom = box or (0, 0, width, height)
    lines: npt.NDArray[Any] = np.asarray(picture)
    for axis, size, begin, end in ((0, height, top, bottom), (1, width, left, right)):
        places = np.maximum((np.arange(begin, end) + 0.5) * (lines.shape[axis] / size) - 0.5, 0.0)
        low = places.astype(np.int64)
        high = np.minimum(low + 1, lines.shape[axis] - 1)
        share = np.expand_dims((places - low).astype(np.float32), (1, 2) if axis == 0 else (0, 2))
        first, second = (np.take(lines, at, axis).astype(np.float32, copy=False) for at in (low, high))
        lines = first + (second - first) * share
    return Image.fromarray(np.rint(lines).astype(np.uint8))


@functools.lru_cache(maxsize=64)
def integer_weights(
    source: int, target: int, interpolation: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """First input and weights of every output, ``(target,)`` and ``(target, taps)``, and the fractional bits."""
    support, kernel = KERNELS[interpolation]
    scale = source / target
    stretch = max(scale, 1.0)
    reach = support * stretch
    centres = scale * (np.arange(target) + 0.5)
    starts = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
    ends = np.minimum((centres + reach + 0.5).astype(np.int64), source)
    places = np.arange(math.ceil(reach) * 2 + 1)
    weights = kernel((places + starts[:, None] - centres[:, None] + 0.5) / stretch)
    weights[places >= (ends - starts)[:, None]] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    largest, precision = float(weights.max()), 0
    while precision < 22 and int(0.5 + largest * (1 << (precision + 1))) < 1 << 15:
        precision += 1
    scaled = weights * (1 << precision)
    return starts, np.trunc(scaled + np.where(weights < 0, -0.5, 0.5)).astype(np.int64), precision


def _bilinear(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _bicubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic convolution with a = −0.5 (1981, doi:10.1109/TASSP.1981.1163711)."""
    a, x = -0.5, np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _lanczos(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


KERNELS: dict[str, tuple[float, Kernel]] = {
    "bilinear": (1.0, _bilinear),
    "bicubic": (2.0, _bicubic),
    "lanczos": (3.0, _lanczos),
}
"""Half-width and filter of those that torch has."""

SUPPORTS = {"box": 0.5, "hamming": 1.0, **{name: support for name, (support, _) in KERNELS.items()}}
"""Half-width of every filter of Pillow's."""
