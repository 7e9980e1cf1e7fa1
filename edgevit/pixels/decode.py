"""Decoding one image to 8-bit RGB, the same way for calibration, evaluation and the device.

What becomes of the rarer kinds of images:

- EXIF orientation is applied, so that a phone's photo stands upright. timm's and torchvision's datasets ignore it.
- Transparency is dropped and the colours beneath it are kept, as timm's and torchvision's datasets do.
- CMYK and YCCK are converted by Pillow without a colour profile, as those do.
- 16-bit grey is scaled to 8 bits; Pillow's own conversion would turn everything above 255 white.
- Of an animation the first frame is taken.
- A large JPEG is decoded in full: libjpeg's reduced sizes are faster and change what the model sees (docs/verdict.md).

Only the standard library, numpy and Pillow, because the device runtime decodes with it.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from edgevit.core.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")

MAX_PIXELS = 89_478_485
"""Largest image that is decoded: a quarter of a GiB as RGB; above it Pillow warns of a decompression bomb."""

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[Any]

_HINT = f"give a complete JPEG, PNG, WebP or BMP image of at most {MAX_PIXELS // 10**6} megapixels"

# What Pillow's readers raise on damaged files; the warning only where an application made errors of warnings.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(
    source: ImageSource, *, name: str | None = None, max_pixels: int = MAX_PIXELS, bgr: bool = False
) -> Image.Image:
    """Decode an image completely, to an upright 8-bit RGB Pillow image whose ``info`` is empty.

    Args:
        source: A path, the bytes of a file, a Pillow image, or pixels: ``(H, W, 3) uint8`` in RGB order,
            ``(H, W, 4) uint8`` in RGBA, whose transparency is dropped, or ``(H, W)`` or ``(H, W, 1) uint8`` in grey.
        name: What errors call the image; by default its path.
        max_pixels: Refuse larger images before decoding them.
        bgr: Pixels are in OpenCV's order, BGR or BGRA.

    Raises:
        DataError: The image is missing, damaged, truncated, too large or of another format.
    """
    name = name or name_source(source)
    if isinstance(source, np.ndarray):
        return _wrap_pixels(source, name, bgr)
    if bgr:
        message = f"{name}: bgr=True is for arrays, and this is none"
        raise DataError(message, "leave it out: files say their own order", code="argument")
    try:
        if isinstance(source, Image.Image):
            return _convert(source, max_pixels)
        if isinstance(source, (str, os.PathLike)) and os.path.exists(source) and not os.path.isfile(source):
            raise ValueError("not a file")  # opening a named pipe would wait for ever
        stream = _stream(source)
        with stream, Image.open(stream, formats=FORMATS) as image:
            if image.format == "PNG":
                _check_png(stream)
            return _convert(image, max_pixels, own=image.format == "JPEG")
    except UnidentifiedImageError as exc:
        raise DataError(
            f"{name}: not a JPEG, PNG, WebP or BMP image, or its header is damaged", _HINT, code="image"
        ) from exc
    except _DAMAGED as exc:
        unread = isinstance(exc, OSError) and exc.errno is not None
        hint = "check the path and its permissions" if unread else _HINT
        raise DataError(f"{name}: {_explain(exc)}", hint, code="image") from exc


def read_size(source: str | os.PathLike[str] | bytes, *, name: str | None = None) -> tuple[int, int]:
    """Height and width of the upright image, from its header; errors call it ``name``, or by its path.

    Raises:
        DataError: It has no header that can be read.
    """
    try:
        stream = _stream(source)
        with stream, Image.open(stream, formats=FORMATS) as image:
            turned = _read_orientation(image) >= 5  # by a quarter
            return (image.width, image.height) if turned else (image.height, image.width)
    except _DAMAGED as exc:
        raise DataError(f"{name or name_source(source)}: {_explain(exc)}", _HINT, code="image") from exc


def name_source(source: ImageSource) -> str:
    """What errors call an image without a name of its own."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else "the image"


def _stream(source: Any) -> Any:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source)
    if isinstance(source, (str, os.PathLike)):
        return open(source, "rb")
    raise TypeError(f"{type(source).__name__} is not a path, bytes, a Pillow image or an array")


def _check_png(stream: Any) -> None:
    """Compare the checksum of every chunk; Pillow passes over those of the pixels, and takes what flipped bits give.

    Raises:
        ValueError: A chunk is damaged. That of a file that ends too early is left to Pillow.
    """
    before = stream.tell()
    stream.seek(8)
    while len(head := stream.read(8)) == 8 and head[4:] != b"IEND":
        length = int.from_bytes(head[:4], "big")
        content, checksum = stream.read(length), stream.read(4)
        if len(checksum) < 4:
            break
        if zlib.crc32(content, zlib.crc32(head[4:])) != int.from_bytes(checksum, "big"):
            raise ValueError("damaged: a checksum is wrong")
    stream.seek(before)


def _wrap_pixels(pixels: npt.NDArray[Any], name: str, bgr: bool) -> Image.Image:
    """What Pillow makes of grey and of transparency, without copying more than it has to."""
    shape = pixels.shape
    if pixels.dtype != np.uint8 or len(shape) not in (2, 3) or shape[2:] not in ((), (1,), (3,), (4,)) or 0 in shape:
        message = f"{name}: an array of shape {shape} and type {pixels.dtype} is not an image's pixels"
        hint = f"give shape (height, width, 3) and type uint8, in RGB order{_guess(pixels)}"
        raise DataError(message, hint, code="argument" if pixels.size else "image")
    if shape[2:] in ((), (1,)):
        return Image.fromarray(np.ascontiguousarray(pixels.reshape(shape[:2]))).convert("RGB")
    return Image.fromarray(np.ascontiguousarray(pixels[..., 2::-1] if bgr else pixels[..., :3]))


def _guess(pixels: npt.NDArray[Any]) -> str:
    """What such an array most probably is, for the hint."""
    shape = pixels.shape
    if len(shape) == 4 and shape[0] == 1:
        return "; of a batch of one, that is image[0]"
    if len(shape) == 3 and shape[0] in (1, 3, 4) and shape[2] > 4:
        return "; channels come last: image.transpose(1, 2, 0)"
    if pixels.dtype != np.uint8 and pixels.dtype.kind in "fiub" and pixels.size:
        return ", with values from 0 to 255"
    return ""


def _convert(image: Image.Image, max_pixels: int, *, own: bool = False) -> Image.Image:
    """Upright RGB; of a JPEG of our ``own`` that is already so, its pixels themselves and not a copy."""
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise ValueError(f"{image.width} × {image.height} pixels exceed the limit of {max_pixels}")
    if pixels == 0:
        raise ValueError("no pixels")
    image.load()  # all of it: a truncated file fails here
    transposition = _TRANSPOSITIONS.get(_read_orientation(image))
    rgb = image if own and image.mode == "RGB" else _to_rgb(image)
    if transposition is not None:
        rgb = rgb.transpose(transposition)
    rgb.info = {}  # or the orientation would be applied a second time
    return rgb


def _read_orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except _DAMAGED:  # a damaged tag says nothing; the pixels are still good
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        image = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours; Pillow warns on the direct way
    return image.convert("RGB")


def _explain(exc: BaseException) -> str:
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    if isinstance(exc, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"more pixels than the limit of {MAX_PIXELS}"
    return f"damaged: {exc}" if isinstance(exc, (struct.error, zlib.error, LookupError)) else str(exc) or "damaged"
