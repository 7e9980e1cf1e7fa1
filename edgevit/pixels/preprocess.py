"""Preprocess: resize, crop, normalise; the one definition that calibration, evaluation and the device share.

:meth:`Preprocess.apply` gives 8-bit pixels. The normalisation behind it is stored here and folded into the model's
first layer, so an engine takes those pixels as they are.

Only the standard library, numpy and Pillow, because the device runtime applies it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgevit.core import schema
from edgevit.core.errors import DataError, EdgevitError
from edgevit.pixels.decode import MAX_PIXELS, ImageSource, decode_image, name_source
from edgevit.pixels.placement import Placement
from edgevit.pixels.resample import Box, resample_pillow, resample_plain, resample_torch
from edgevit.pixels.warp import find_region, warp

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Resize = Literal["shortest", "longest", "squash", "crop", "pad", "none", "warp"]

INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes a model's input.

    The image is resized, then cropped around its centre, and padded where it is smaller than the crop. The result is
    the same with every version of Pillow from 10 on.

    Args:
        height: Rows of the model's input.
        width: Columns of the model's input.
        resize: ``shortest``: keep the aspect ratio and cover ``resize_height`` × ``resize_width``; ``longest``: keep it
            and fit into them; ``squash``: resize to exactly them; ``crop``: cut the largest part of their aspect
            ratio out of the centre and resize that (Keras); ``pad``: fill it up to a square at the right and bottom and
            resize that to exactly them (OWLv2); ``none``: leave the image as it is; ``warp``: sample it
            with a border around it (ViTPose, ``edgevit/pixels/warp.py``), straight to the input.
        resize_height: Rows to resize to, before the crop.
        resize_width: Columns to resize to, before the crop. ``shortest`` to a square rounds the long side down, as
            torchvision does; otherwise both sides are rounded to the nearest, halves to even, as timm does.
        interpolation: The resampling filter.
        mean: Subtracted per channel (R, G, B), after ``rescale``.
        std: Divided by per channel, after ``mean``.
        rescale: Factor on the 8-bit values.
        resampling: Whose resize: they differ by some grey levels along hard edges. ``pillow``: as Pillow from version
            13 on, the vertical pass first where the height shrinks by more than twice as many pixels as the width.
            ``torch``: as torchvision and transformers on tensors, bit for bit.
        crop_rounding: Where a crop is off-centre by half a pixel: ``round`` halves to even (torchvision, timm), or
            ``floor`` (transformers).
        fill: Colour of the padding.
        antialias: Whether the filter widens where the image shrinks. TensorFlow's and Keras' does not unless told to:
            the four pixels around a place are blended, only of ``bilinear``.
        crop_ratio: Crop size ÷ resize size as the publisher states it, for :meth:`with_size`; by default that of the
            sizes.

    Raises:
        ValueError: A size, mean, standard deviation or factor that is not possible.
    """

    height: int
    width: int
    resize: Resize
    resize_height: int
    resize_width: int
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rescale: float = 1 / 255
    resampling: Literal["pillow", "torch"] = "pillow"
    crop_rounding: Literal["round", "floor"] = "round"
    fill: tuple[int, int, int] = (0, 0, 0)
    crop_ratio: float | None = None
    antialias: bool = True

    def __post_init__(self) -> None:
        own: dict[str, Any] = dict(vars(self))
        sizes = {name: own[name] for name in ("height", "width", "resize_height", "resize_width")}
        choices = {"interpolation": INTERPOLATIONS, "resize": get_args(Resize)}
        choices |= {"resampling": ("pillow", "torch"), "crop_rounding": ("round", "floor")}
        mean = len(self.mean) == 3 and all(math.isfinite(m) for m in self.mean)
        std = len(self.std) == 3 and all(math.isfinite(s) and s > 0 for s in self.std)
        fill = len(self.fill) == 3 and all(0 <= f <= 255 for f in self.fill)
        factors = {name: own[name] for name in ("rescale", "crop_ratio") if own[name] is not None}
        soft = not self.antialias and self.interpolation != "bilinear"
        exact = self.resize != "warp" or (self.resize_height, self.resize_width) == (self.height, self.width)
        sampled = self.resize == "warp" and (self.antialias or self.interpolation != "bilinear" or not exact)
        schema.refuse(
            *((not 1 <= n <= 2**15, f"{name} = {n} is not between 1 and {2**15}") for name, n in sizes.items()),
            *(
                (own[k] not in valid, f"{k} = {own[k]!r} is not one of {', '.join(valid)}")
                for k, valid in choices.items()
            ),
            (not mean, f"mean = {self.mean} is not three finite numbers"),
            (not std, f"std = {self.std} is not three finite numbers above 0"),
            (not fill, f"fill = {self.fill} is not three values from 0 to 255"),
            *((not 0 < f < math.inf, f"{name} = {f} is not a finite number above 0") for name, f in factors.items()),
            (soft, f"antialias = False goes with bilinear interpolation, not with {self.interpolation}"),
            (sampled, "resize = 'warp' goes with bilinear interpolation to the input's size and antialias = False"),
        )

    @classmethod
    def from_data(cls, data: object, where: str, error: type[EdgevitError]) -> Preprocess:
        """From plain data, as in a bundle's manifest; see :func:`edgevit.core.schema.from_data`."""
        return schema.from_data(cls, data, where, error)

    def to_data(self) -> dict[str, Any]:
        """The inverse of :meth:`from_data`."""
        data: dict[str, Any] = schema.to_data(self)
        return data

    def with_size(self, height: int, width: int) -> Preprocess:
        """The same for another input size; the ratio of crop to resize stays."""

        def scale(size: int, resized: int, cropped: int) -> int:
            return size * resized // cropped if self.crop_ratio is None else math.floor(size / self.crop_ratio)

        return dataclasses.replace(
            self,
            height=height,
            width=width,
            resize_height=max(1, scale(height, self.resize_height, self.height)),
            resize_width=max(1, scale(width, self.resize_width, self.width)),
        )

    def resized_size(self, height: int, width: int, *, name: str = "the image") -> tuple[int, int]:
        """Size before the crop, as (height, width), of an image of the given size.

        Raises:
            DataError: It would have more than ``MAX_PIXELS`` pixels: the image is an extreme strip.
        """
        size = made = self._resized_size(height, width)
        if self.resize == "pad":  # the square is made in memory, and may be the larger one
            made = max(size, (max(height, width),) * 2, key=math.prod)
        if math.prod(made) > MAX_PIXELS:
            raise DataError(
                f"{name}: {width} × {height} pixels would become {made[1]} × {made[0]} before the crop",
                "crop the image to a less extreme aspect ratio",
                code="image",
            )
        return size

    def _resized_size(self, height: int, width: int) -> tuple[int, int]:
        if self.resize == "none":
            return height, width
        if self.resize in ("squash", "crop", "pad", "warp"):
            return self.resize_height, self.resize_width
        if self.resize == "shortest" and self.resize_height == self.resize_width:
            short = self.resize_height
            return (int(short * height / width), short) if width <= height else (short, int(short * width / height))
        ratios = height / self.resize_height, width / self.resize_width
        ratio = min(ratios) if self.resize == "shortest" else max(ratios)
        return max(1, round(height / ratio)), max(1, round(width / ratio))

    def apply(self, image: ImageSource, *, name: str | None = None, bgr: bool = False) -> npt.NDArray[np.uint8]:
        """Pixels for the model: ``(height, width, 3) uint8``, RGB.

        Args:
            image: A path, the bytes of a file, a Pillow image, or an array as ``decode_image`` takes it.
            name: What errors call the image; by default its path.
            bgr: An array is in OpenCV's order.

        Raises:
            DataError: The image cannot be decoded, or is an extreme strip.
        """
        name = name or name_source(image)
        return self.fit(decode_image(image, name=name, bgr=bgr), name=name)

    def fit(self, picture: Image.Image, *, name: str = "the image") -> npt.NDArray[np.uint8]:
        """The second half of :meth:`apply`: resize, crop and pad what ``decode_image`` gave.

        Raises:
            DataError: The image is an extreme strip.
        """
        height, width = self.resized_size(picture.height, picture.width, name=name)
        if self.resize == "warp":
            return self.fit_box(picture, (0, 0, picture.width, picture.height))
        if self.resize == "crop":
            picture = picture.crop(self._find_cut(picture.height, picture.width))
        if self.resize == "pad":
            square = Image.new("RGB", (max(picture.size),) * 2, self.fill)
            square.paste(picture, (0, 0))
            picture = square
        left, top = self._crop_offset(width, self.width), self._crop_offset(height, self.height)
        # What is wanted of the resized image: all of it where the crop is larger.
        part = max(0, left), max(0, top), min(width, left + self.width), min(height, top + self.height)
        if (width, height) != picture.size:
            picture = self._resample(picture, width, height, part)
        elif part != (0, 0, width, height):
            picture = picture.crop(part)
        if picture.size != (self.width, self.height):
            canvas = Image.new("RGB", (self.width, self.height), self.fill)
            canvas.paste(picture, (max(0, -left), max(0, -top)))
            picture = canvas
        return np.array(picture)

    def fit_whole(self, picture: Image.Image, *, name: str = "the image") -> npt.NDArray[np.uint8]:
        """As :meth:`fit` without the crop: all of the resized image, ``(rows, columns, 3) uint8``."""
        height, width = self.resized_size(picture.height, picture.width, name=name)
        return dataclasses.replace(self, height=height, width=width).fit(picture, name=name)

    def fit_box(self, picture: Image.Image, box: Sequence[float]) -> npt.NDArray[np.uint8]:
        """Of ``warp``: the input for a box, (left, top, right, bottom), in place of the whole image."""
        return warp(picture, find_region(box, self.height, self.width), self.height, self.width, self.fill)

    def place(self, height: int, width: int) -> Placement:
        """Where an image of the given size lies in the input.

        Raises:
            DataError: The image is an extreme strip.
        """
        rows, columns = self.resized_size(height, width)
        if self.resize == "warp":
            return find_region((0, 0, width, height), self.height, self.width).place(self.height, self.width)
        cut = self._find_cut(height, width)
        scale = columns / (cut[2] - cut[0]), rows / (cut[3] - cut[1])
        left, top = self._crop_offset(columns, self.width), self._crop_offset(rows, self.height)
        return Placement(scale, (-cut[0] * scale[0] - left, -cut[1] * scale[1] - top))

    def _find_cut(self, rows: int, columns: int) -> Box:
        """What is resized. Of ``crop`` the largest part with that aspect ratio, rounded as Keras does: always down."""
        if self.resize != "crop":
            side = max(rows, columns)
            return (0, 0, side, side) if self.resize == "pad" else (0, 0, columns, rows)
        wide, high = self.resize_width, self.resize_height
        height = max(1, min(rows, int(float(columns * high) / wide)))
        width = max(1, min(columns, int(float(rows * wide) / high)))
        top, left = (rows - height) // 2, (columns - width) // 2
        return left, top, left + width, top + height

    def _resample(self, picture: Image.Image, width: int, height: int, part: Box) -> Image.Image:
        """The part, (left, top, right, bottom), of the image resized to this width and height."""
        if not self.antialias:
            return resample_plain(picture, width, height, part)
        resample = resample_torch if self.resampling == "torch" else resample_pillow
        return resample(picture, width, height, self.interpolation, part)

    def _crop_offset(self, size: int, crop: int) -> int:
        """First row or column of the crop; negative where padding comes before the image."""
        if crop > size:
            return -((crop - size) // 2)
        return round((size - crop) / 2) if self.crop_rounding == "round" else (size - crop) // 2

    def affine(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """``(scale, offset)``, each ``(3,) float64``: a normalised value is ``pixel · scale + offset``."""
        std = np.asarray(self.std, np.float64)
        return self.rescale / std, -np.asarray(self.mean, np.float64) / std

    def normalize(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Normalised values, ``(…, 3) uint8`` to ``(…, 3) float32``: what a deployed model does to its input."""
        values = pixels.astype(np.float32) * np.float32(self.rescale)
        values -= np.asarray(self.mean, np.float32)
        values /= np.asarray(self.std, np.float32)
        return values

    def describe(self) -> str:
        """One line for people."""
        if self.resize == "none":
            steps = []
        elif self.resize == "warp":
            steps = [f"sampled with a border of an eighth to {self.height} × {self.width}"]
        else:
            square = self.resize_height == self.resize_width
            exact = self.resize in ("squash", "crop", "pad")
            side = {"shortest": "short side to ", "longest": "long side to "}.get(self.resize, "to ")
            if not exact and not square:
                side = "to cover " if self.resize == "shortest" else "to fit into "
            size = f"{self.resize_height} × {self.resize_width}" if exact or not square else f"{self.resize_height}"
            firsts = {"crop": "cut to the aspect ratio, ", "pad": "fill up to a square at the right and bottom, "}
            first = firsts.get(self.resize, "")
            steps = [
                f"{first}resize {side}{size} ({self.interpolation}{'' if self.antialias else ', not antialiased'})"
            ]
        exact = self.resize in ("squash", "crop", "pad", "warp")
        if not exact or (self.resize_height, self.resize_width) != (self.height, self.width):
            steps.append(f"centre crop {self.height} × {self.width}")
        if not math.isclose(self.rescale, 1 / 255):
            steps.append(f"times {self.rescale:g}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            steps.append(f"{name} " + " ".join(f"{v:.4g}" for v in values))
        return ", ".join(steps)


def to_nchw(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``(B, H, W, 3)`` to a contiguous ``(B, 3, H, W)``, or ``(H, W, 3)`` to ``(3, H, W)``, of the same type."""
    return np.ascontiguousarray(np.moveaxis(values, -1, -3))
