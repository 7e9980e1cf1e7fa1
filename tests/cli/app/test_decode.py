"""The sample's JPEG and PNG files become the very bytes that Python makes of them."""

from __future__ import annotations

import ctypes
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from edgevit.cli.app import write
from edgevit.core.errors import DataError
from edgevit.pixels.decode import MAX_PIXELS, decode_image
from tests.support import cpp_engine
from tests.support.cpp_apps import compile_library
from tests.support.photos import make_photo

SHARED = Path(write.__file__).parent / "shared"


class Picture(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_void_p), ("room", ctypes.c_size_t), ("image", cpp_engine.Image))


class Decoder:
    """``decode_file``, which keeps its memory from one image to the next."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._picture = Picture()

    def __call__(self, path: Path) -> npt.NDArray[np.uint8]:
        why = ctypes.create_string_buffer(256)
        if self._library.decode_file(str(path).encode(), ctypes.byref(self._picture), why, 256):
            raise ValueError(why.value.decode())
        image = self._picture.image
        assert (image.stride, image.format) == (0, cpp_engine.FORMATS["rgb"])
        assert image.data == self._picture.bytes
        pixels = ctypes.cast(image.data, ctypes.POINTER(ctypes.c_uint8))
        return np.ctypeslib.as_array(pixels, (image.height, image.width, 3)).copy()


@pytest.fixture(scope="module")
def decode(tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    out = tmp_path_factory.mktemp("decode") / "decode.so"
    return Decoder(compile_library([SHARED / "decode.c"], out, "-ljpeg", "-lpng"))


def write_png(path: Path, pixels: npt.NDArray[Any], colour: int, extra: bytes = b"") -> Path:
    """Of 16 bits a value, which Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">2I5B", width, height, 16, colour, 0, 0, 0)
    content = chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


def check(decode: Decoder, path: Path) -> None:
    np.testing.assert_array_equal(decode(path), np.asarray(decode_image(path)))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_pythons(decode, tmp_path, subsampling, progressive):
    make_photo(43, 61).save(tmp_path / "x.jpg", subsampling=subsampling, progressive=progressive, quality=80)
    check(decode, tmp_path / "x.jpg")


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpeg_of_other_colours_is_pythons(decode, tmp_path, mode):
    make_photo(43, 61).convert(mode).save(tmp_path / "x.jpg")
    check(decode, tmp_path / "x.jpg")


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_orientation_is_applied(decode, tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    make_photo(43, 61).save(tmp_path / f"x.{suffix}", exif=exif)
    check(decode, tmp_path / f"x.{suffix}")
    if orientation in (5, 6, 7, 8):
        assert decode(tmp_path / f"x.{suffix}").shape == (61, 43, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\0\x01\x01\x12",
        b"MM\0*\0\0\0\x08\xff\xff" + b"\x01\x0f\0\x03\0\0\0\x01\0\x06\0\0" * 3,
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0",
    ],
)
def test_exif_that_says_nothing_leaves_the_image_as_it_lies(decode, tmp_path, exif):
    make_photo(43, 61).save(tmp_path / "x.jpg", exif=b"Exif\0\0" + exif)
    assert decode(tmp_path / "x.jpg").shape == (43, 61, 3)
    check(decode, tmp_path / "x.jpg")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_is_pythons(decode, tmp_path, mode):
    photo = make_photo(43, 61)
    photo.putalpha(Image.fromarray(np.random.default_rng(1).integers(0, 256, (43, 61), dtype=np.uint8)))
    photo.convert(mode).save(tmp_path / "x.png")
    check(decode, tmp_path / "x.png")


@pytest.mark.parametrize("colours", [2, 4, 16])
def test_png_with_a_small_palette_of_which_a_colour_is_transparent_is_pythons(decode, tmp_path, colours):
    make_photo(43, 61).quantize(colours).save(tmp_path / "x.png", transparency=1)
    check(decode, tmp_path / "x.png")


@pytest.mark.parametrize(("channels", "colour"), [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_png_of_16_bits_is_pythons(decode, tmp_path, channels, colour):
    pixels = np.random.default_rng(2).integers(0, 1 << 16, (30, 50, channels))
    check(decode, write_png(tmp_path / "x.png", pixels, colour))


def test_photos_are_pythons(decode, assets):
    photos = sorted((assets / "imagenet" / "validation").rglob("*.*"))[::20]
    assert len(photos) >= 20
    for photo in photos:
        check(decode, photo)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_file_that_is_cut_short_is_refused(decode, tmp_path, suffix):
    make_photo(43, 61).save(tmp_path / f"x.{suffix}")
    content = (tmp_path / f"x.{suffix}").read_bytes()
    for part in (4, 30, len(content) // 2, len(content) - 20):
        (tmp_path / "cut").write_bytes(content[:part])
        with pytest.raises(ValueError):
            decode(tmp_path / "cut")


def test_png_that_lost_what_follows_its_last_pixel_is_refused_here_and_taken_by_pillow(decode, tmp_path):
    """As docs/images.md and the app's README say."""
    make_photo(43, 61).save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    whole = np.asarray(decode_image(content))
    for missing in range(1, 21):  # the end's chunk, the checksum of the last one of pixels, that of the pixels
        np.testing.assert_array_equal(np.asarray(decode_image(content[:-missing])), whole)
        (tmp_path / "cut").write_bytes(content[:-missing])
        with pytest.raises(ValueError, match="cut short"):
            decode(tmp_path / "cut")
    with pytest.raises(DataError, match="truncated"):
        decode_image(content[:-30])


def test_png_with_a_flipped_bit_is_refused(decode, tmp_path):
    make_photo(43, 61).save(tmp_path / "x.png")
    content = bytearray((tmp_path / "x.png").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ValueError):
        decode(tmp_path / "x.png")


def test_image_of_too_many_pixels_is_refused_before_it_is_decoded(decode, tmp_path):
    pixels = np.zeros((1, 1, 3))
    path = write_png(tmp_path / "x.png", pixels, 2)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">2I", 9460, MAX_PIXELS // 9460 + 1)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    with pytest.raises(ValueError, match="89 megapixels"):
        decode(path)


def test_what_is_no_image_is_told_in_a_sentence(decode, tmp_path):
    (tmp_path / "x.bmp").write_bytes(b"BM" + bytes(100))
    (tmp_path / "empty").touch()
    for name in ("x.bmp", "empty"):
        with pytest.raises(ValueError, match="not a JPEG or PNG image"):
            decode(tmp_path / name)
    with pytest.raises(ValueError, match="not a file"):
        decode(tmp_path)
    with pytest.raises(ValueError, match="No such file"):
        decode(tmp_path / "nothing")


def test_next_image_may_be_larger_or_smaller(decode, tmp_path):
    for size in ((10, 20), (90, 70), (5, 5)):
        make_photo(*size[::-1]).save(tmp_path / "x.png")
        check(decode, tmp_path / "x.png")
