from __future__ import annotations

import io
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from edgevit.core.errors import DataError
from edgevit.pixels.decode import MAX_PIXELS, decode_image, read_size
from tests.support.photos import make_photo
from tests.support.png_header import make_png_header

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


PHOTO = make_photo(40, 60)
FILES = {format: encode(PHOTO, format) for format in FORMATS}


@pytest.mark.parametrize("format", FORMATS)
def test_decode_image_when_rgb_gives_pillows_pixels(format: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.dat"  # the contents decide, not the name
    path.write_bytes(FILES[format])
    expected = pixels(Image.open(path))
    for source in (path, str(path), FILES[format], Image.open(path)):
        image = decode_image(source)
        assert image.mode == "RGB"
        np.testing.assert_array_equal(pixels(image), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "PA"])
def test_decode_image_when_other_mode_converts_to_rgb_as_timm_does(mode: str) -> None:
    image = PHOTO.convert("L").convert("LA").convert("PA") if mode == "PA" else PHOTO.convert(mode)
    decoded = decode_image(image)
    assert decoded.mode == "RGB"
    np.testing.assert_array_equal(pixels(decoded), pixels(image.convert("RGB")))


def test_decode_image_when_cmyk_jpeg_stands_near_the_original() -> None:
    smooth = PHOTO.resize((12, 8)).resize((120, 80))
    decoded = decode_image(encode(smooth.convert("CMYK"), "JPEG", quality=100, subsampling=0))
    assert np.abs(pixels(decoded).astype(int) - pixels(smooth)).max() < 12  # an inverted one would be off by 255


def test_decode_image_when_transparent_keeps_the_colours_beneath() -> None:
    rgba = PHOTO.convert("RGBA")
    rgba.putalpha(Image.new("L", PHOTO.size, 0))
    np.testing.assert_array_equal(pixels(decode_image(encode(rgba, "PNG"))), pixels(PHOTO))


def test_decode_image_when_palette_has_transparency_ignores_it_without_a_warning() -> None:
    palette = PHOTO.quantize(32)
    expected = pixels(palette.convert("RGB"))
    data = encode(palette, "PNG", transparency=bytes(range(0, 256, 8)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(pixels(decode_image(data)), expected)


def test_decode_image_when_grey_has_16_bits_scales_them() -> None:
    values = np.linspace(0, 65535, 300).astype(np.uint16).reshape(10, 30)
    decoded = pixels(decode_image(encode(Image.fromarray(values), "PNG")))
    np.testing.assert_array_equal(decoded, np.repeat(np.rint(values / 257).astype(np.uint8)[..., None], 3, axis=2))
    np.testing.assert_array_equal(pixels(decode_image(Image.fromarray(values.astype(np.int32)))), decoded)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_decode_image_when_exif_orientation_is_set_turns_the_image_once(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(PHOTO, format, exif=exif)
    expected = pixels(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    decoded = decode_image(data)
    np.testing.assert_array_equal(pixels(decoded), expected)
    np.testing.assert_array_equal(pixels(decode_image(decoded)), expected)
    np.testing.assert_array_equal(pixels(decode_image(Image.open(io.BytesIO(data)))), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_read_size_is_that_of_the_decoded_image(format: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "x"
    path.write_bytes(encode(make_photo(7, 12, 0), format, exif=exif))
    decoded = decode_image(path)
    assert read_size(path) == (decoded.height, decoded.width)
    assert set(read_size(path)) == {7, 12}
    path.write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot identify"):
        read_size(path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\0\0", b"x"])
def test_decode_image_when_exif_is_damaged_still_gives_the_pixels(exif: bytes) -> None:
    data = encode(PHOTO, "JPEG", exif=exif)
    np.testing.assert_array_equal(pixels(decode_image(data)), pixels(Image.open(io.BytesIO(FILES["JPEG"]))))


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_decode_image_when_animated_takes_the_first_frame(format: str) -> None:
    frames = [PHOTO, ImageOps.invert(PHOTO)]
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(pixels(decode_image(data)), pixels(PHOTO))


def test_decode_image_when_source_is_an_image_leaves_it_as_it_is() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(encode(PHOTO, "PNG", exif=exif)))
    decode_image(image).paste(0, (0, 0, 5, 5))
    np.testing.assert_array_equal(pixels(image), pixels(PHOTO))
    assert image.getexif()[0x0112] == 6


def test_decode_image_when_jpeg_is_rgb_and_upright_gives_pixels_of_its_own() -> None:
    data = encode(PHOTO, "JPEG")
    first, second = decode_image(data), decode_image(data)
    expected = pixels(Image.open(io.BytesIO(data)))
    first.paste(0, (0, 0, 5, 5))
    assert first.info == {}
    np.testing.assert_array_equal(pixels(second), expected)
    np.testing.assert_array_equal(pixels(second.copy().transpose(Image.Transpose.ROTATE_90)), np.rot90(expected))
    np.testing.assert_array_equal(pixels(decode_image(second)), expected)


def test_decode_image_when_array_gives_its_pixels() -> None:
    array = pixels(PHOTO)
    np.testing.assert_array_equal(pixels(decode_image(array[:, ::-1])), array[:, ::-1])
    np.testing.assert_array_equal(pixels(decode_image(array[::2, 5:9])), array[::2, 5:9])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_decode_image_when_array_is_grey_or_transparent_does_as_of_a_file(mode: str) -> None:
    picture = PHOTO.convert(mode)
    if mode == "RGBA":
        picture.putalpha(PHOTO.convert("L"))
    expected = pixels(Image.open(io.BytesIO(encode(picture, "PNG"))).convert("RGB"))
    np.testing.assert_array_equal(pixels(decode_image(encode(picture, "PNG"))), expected)
    array = pixels(picture)
    np.testing.assert_array_equal(pixels(decode_image(array)), expected)
    np.testing.assert_array_equal(pixels(decode_image(np.asfortranarray(array))), expected)
    opencv = array if mode == "L" else array[..., [2, 1, 0, 3][: array.shape[2]]]
    before = opencv.copy()
    np.testing.assert_array_equal(pixels(decode_image(opencv, bgr=True)), expected)
    np.testing.assert_array_equal(opencv, before)
    if mode == "L":
        np.testing.assert_array_equal(pixels(decode_image(array[..., None])), expected)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (np.zeros((5, 6, 3), np.float32), "values from 0 to 255"),
        (np.zeros((5, 6), np.uint16), "values from 0 to 255"),
        (np.zeros((5, 6), bool), "values from 0 to 255"),
        (np.zeros((5, 6, 2), np.uint8), "RGB order"),
        (np.zeros((5, 6, 5), np.uint8), "RGB order"),
        (np.zeros((3, 50, 60), np.uint8), "transpose(1, 2, 0)"),
        (np.zeros((1, 5, 6, 3), np.uint8), "image[0]"),
        (np.zeros((6,), np.uint8), "RGB order"),
        (np.zeros((), np.uint8), "RGB order"),
        (np.zeros((0, 6, 3), np.uint8), "RGB order"),
        (np.zeros((6, 0), np.uint8), "RGB order"),
        (np.array([[None]]), "RGB order"),
    ],
    ids=lambda value: f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray) else None,
)
def test_decode_image_when_array_is_no_image_refuses_it_and_says_what_it_may_be(wrong: np.ndarray, hint: str) -> None:
    for bgr in (False, True):
        with pytest.raises(DataError, match=r"frame: an array of shape .* is not an image's pixels") as caught:
            decode_image(wrong, name="frame", bgr=bgr)
        assert hint in caught.value.hint
        assert caught.value.code == ("argument" if wrong.size else "image")


@pytest.mark.parametrize("source", [FILES["PNG"], PHOTO])
def test_decode_image_when_bgr_is_said_of_what_knows_its_order_refuses_it(source: bytes | Image.Image) -> None:
    with pytest.raises(DataError, match="bgr=True is for arrays") as caught:
        decode_image(source, bgr=True)
    assert caught.value.code == "argument"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("part", [0.02, 0.5, 0.95])
def test_decode_image_when_truncated_refuses_it_by_name(format: str, part: float, tmp_path: Path) -> None:
    path = tmp_path / "photo"
    path.write_bytes(FILES[format][: int(len(FILES[format]) * part)])
    with pytest.raises(DataError, match=r"photo: .+") as caught:
        decode_image(path)
    assert caught.value.hint
    with pytest.raises(DataError, match="kitten"):
        decode_image(path, name="kitten")


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"<html>", encode(PHOTO, "GIF"), encode(PHOTO, "TIFF")])
def test_decode_image_when_not_such_an_image_refuses_it(data: bytes) -> None:
    with pytest.raises(DataError, match="not a JPEG, PNG, WebP or BMP image"):
        decode_image(data)


def test_decode_image_when_path_is_no_file_refuses_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file") as caught:
        decode_image(tmp_path / "none.jpg")
    assert caught.value.hint == "check the path and its permissions"
    with pytest.raises(DataError, match="not a file"):
        decode_image(tmp_path)
    with pytest.raises(DataError, match="null byte"):
        decode_image("a\0b")
    with pytest.raises(DataError, match="int"):
        decode_image(3)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_decode_image_when_path_is_a_pipe_does_not_wait_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match="not a file"):
        decode_image(tmp_path / "pipe.jpg")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(10_000, MAX_PIXELS // 10_000 + 1), (30_000, 30_000), (2**31 - 1, 2**31 - 1)])
def test_decode_image_when_decompression_bomb_refuses_it(size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=r"limit|pixels"):
        decode_image(make_png_header(*size))


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_decode_image_when_warnings_are_errors_still_refuses_bombs_as_data_error() -> None:
    with pytest.raises(DataError, match="limit"):
        decode_image(make_png_header(10_000, MAX_PIXELS // 10_000 + 1))


def test_decode_image_when_limit_is_given_keeps_to_it() -> None:
    assert decode_image(FILES["PNG"], max_pixels=2400).size == (60, 40)
    with pytest.raises(DataError, match="60 × 40 pixels exceed the limit of 2399"):
        decode_image(FILES["PNG"], max_pixels=2399)
    with pytest.raises(DataError, match="exceed the limit"):
        decode_image(PHOTO, max_pixels=2399)


def test_decode_image_when_pixels_are_floating_point_refuses_them() -> None:
    with pytest.raises(DataError, match="floating-point"):
        decode_image(Image.new("F", (4, 4)))


def test_decode_image_when_image_has_no_pixels_refuses_it() -> None:
    with pytest.raises(DataError, match="no pixels"):
        decode_image(Image.new("RGB", (0, 4)))


@settings(max_examples=150, deadline=None)
@given(
    format=st.sampled_from(FORMATS),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
    front=st.booleans(),
)
@pytest.mark.filterwarnings("ignore")
def test_decode_image_when_bytes_are_damaged_raises_no_other_error(
    format: str, changes: list[tuple[float, int]], front: bool
) -> None:
    data = bytearray(FILES[format])
    span = min(len(data), 80) if front else len(data)  # headers break in more ways than pixels
    for place, value in changes:
        data[int(place * span)] = value
    try:
        image = decode_image(bytes(data), max_pixels=1_000_000)
    except DataError:
        return
    assert image.mode == "RGB"


def test_png_with_any_flipped_bit_in_its_pixels_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    whole = encode(Image.fromarray(noise), "PNG")
    assert np.array_equal(pixels(decode_image(whole)), noise)
    for position in range(whole.index(b"IDAT") + 4, len(whole) - 16, 37):  # up to the last chunk
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        (tmp_path / "x.png").write_bytes(damaged)
        for source in (bytes(damaged), tmp_path / "x.png"):
            with pytest.raises(DataError):
                decode_image(source)
