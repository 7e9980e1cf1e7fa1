"""Resizing as the references do it, to the last bit.

Two programs that call their filter ``bicubic, antialiased`` differ by a grey level on most photos: they round in other
places. A grey level is enough to change some answers in a thousand, so a bundle resizes as the model's publisher does.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
Kernel = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]

INPUTS_AT_A_TIME = 16


def resample_pillow(picture: Image.Image, width: int, height: int, interpolation: str) -> Image.Image:
    """One ``resize`` of Pillow 13, in two calls that mean the same to older versions."""
    kernel = Image.Resampling[interpolation.upper()]
    if kernel == Image.Resampling.NEAREST:  # a single pass
        return picture.resize((width, height), kernel)
    fewer_rows, fewer_columns = picture.height - height, picture.width - width
    vertical_first = fewer_rows > 0 and fewer_rows > 2 * fewer_columns
    between = (picture.width, height) if vertical_first else (width, picture.height)
    return picture.resize(between, kernel).resize((width, height), kernel)


def resample_torch(picture: Image.Image, width: int, height: int, interpolation: str) -> Image.Image:
    """torch's antialiased resize of uint8 tensors, which torchvision and transformers call; bit for bit.

    The horizontal pass comes first, each pass rounds to 8 bits, and the weights are 16-bit integers with as many
    fractional bits as the largest of them allows. Filters that torch does not have go through Pillow.
    """
    if interpolation not in KERNELS:
        return resample_pillow(picture, width, height, interpolation)
    pixels = np.asarray(picture)
    rows, columns, channels = pixels.shape
    if columns != width:
        lines = _shrink(pixels.transpose(1, 0, 2).reshape(columns, rows * channels), width, interpolation)
        pixels = lines.reshape(width, rows, channels).transpose(1, 0, 2)
    if rows != height:
        lines = _shrink(pixels.reshape(rows, width * channels), height, interpolation)
        pixels = lines.reshape(height, width, channels)
    return Image.fromarray(np.ascontiguousarray(pixels))


def resample_plain(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Bilinear interpolation without antialiasing, as TensorFlow's and Keras' ``resize`` has it by default.

    The place of a pixel is that of its centre; beyond the border the nearest pixel counts. Halves round to even.
    """
    lines = np.asarray(picture).astype(np.float32)
    for axis, size in ((0, height), (1, width)):
        places = np.maximum((np.arange(size) + 0.5) * (lines.shape[axis] / size) - 0.5, 0.0)
        low = places.astype(np.int64)
        high = np.minimum(low + 1, lines.shape[axis] - 1)
        share = np.expand_dims((places - low).astype(np.float32), (1, 2) if axis == 0 else (0, 2))
        first, second = np.take(lines, low, axis), np.take(lines, high, axis)
        lines = first + (second - first) * share
    return Image.fromarray(np.rint(lines).astype(np.uint8))


def _shrink(lines: Pixels, size: int, interpolation: str) -> Pixels:
    """One pass: ``(n, m) uint8 → (size, m) uint8``."""
    starts, weights, precision = integer_weights(len(lines), size, interpolation)
    taps = weights.shape[1]
    result = np.empty((size, lines.shape[1]), np.uint8)
    # A few outputs share a product with their inputs: fewer, and calls cost; more, and most weights are zero.
    outputs = max(2, INPUTS_AT_A_TIME * size // len(lines))
    for first in range(0, size, outputs):
        block = slice(first, min(first + outputs, size))
        low, high = int(starts[block][0]), min(int(starts[block][-1]) + taps, len(lines))
        matrix = np.zeros((len(starts[block]), high - low + taps))
        for row, start, weight in zip(matrix, starts[block], weights[block], strict=True):
            row[start - low : start - low + taps] = weight
        # Sums of integers below 2⁵³ are exact in float64, in whatever order BLAS adds them.
        total = matrix[:, : high - low] @ lines[low:high].astype(np.float64)
        shifted = (total.astype(np.int64) + (1 << (precision - 1))) >> precision
        result[block] = np.clip(shifted, 0, 255)
    return result


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
