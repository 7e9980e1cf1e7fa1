"""Photo: one image file in memory, which stands for those that an app will be given."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from edgevit.core.errors import DataError
from edgevit.core.report.timings import SYNTHETIC
from edgevit.pixels.decode import FORMATS, decode_image

if TYPE_CHECKING:
    from edgevit.pixels.images import ImageSet

DRAWN_SIZE = (640, 480)
_DRAWN_QUALITY = 90
_OCTAVES = 8


@dataclass(frozen=True)
class Photo:
    """An image file.

    Attributes:
        name: What the report calls it.
        data: The file's bytes.
        format: ``JPEG``, ``PNG`` and so on.
        width: Of the upright image, in pixels.
        height: Likewise.
    """

    name: str
    data: bytes
    format: str
    width: int
    height: int


def pick_photo(images: ImageSet) -> Photo:
    """The file of median size in bytes: of an even number the smaller of the middle two, of equal sizes by name.

    Raises:
        DataError: It cannot be read any more.
    """
    try:
        ordered = sorted((images.measure(file), file) for file in images.files)
    except OSError as exc:
        raise DataError(f"{exc.filename}: {exc.strerror}", "leave the images in place while a build runs") from exc
    _, file = ordered[(len(ordered) - 1) // 2]
    image = images.fetch(file)
    return _describe(file, image) if isinstance(image, bytes) else read_photo(image, name=file)


def read_photo(path: str | Path, *, name: str | None = None) -> Photo:
    """An image file, decoded once to see that it is one.

    Raises:
        DataError: The image is missing, damaged or of another format.
    """
    name = name or Path(path).name
    try:
        data = Path(path).read_bytes()
    except OSError as exc:
        raise DataError(f"{path}: {exc.strerror}", "give a JPEG, PNG, WebP or BMP image") from exc
    return _describe(name, data)


def draw_photo() -> Photo:
    """A JPEG of 640 × 480 with detail at every scale, as photos have; the same on every machine but for rounding."""
    generator = np.random.default_rng(0)
    pixels = np.full((DRAWN_SIZE[1], DRAWN_SIZE[0], 3), 128.0)
    for octave in range(_OCTAVES):
        cells = generator.uniform(-1, 1, (3 << octave, 4 << octave, 3))
        rough = Image.fromarray(np.rint(127.5 + 127.5 * cells).astype(np.uint8))
        smooth = np.asarray(rough.resize(DRAWN_SIZE, Image.Resampling.BICUBIC), np.float64)
        pixels += (smooth - 127.5) * 0.65**octave
    stream = io.BytesIO()
    drawn = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    drawn.save(stream, "JPEG", quality=_DRAWN_QUALITY)
    return _describe(SYNTHETIC, stream.getvalue())


def _describe(name: str, data: bytes) -> Photo:
    picture = decode_image(data, name=name)
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return Photo(name, data, image.format or "image", picture.width, picture.height)
