"""The layouts of images that C++ takes, and those that it refuses."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgevit.pixels.preprocess import Preprocess
from tests.support.cpp_pixels import Bytes, CppPixels, Frame, pack_frame, pack_planes
from tests.support.photos import make_photo

NORMAL: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
SQUASH = Preprocess(24, 40, "squash", 30, 44, "bicubic", **NORMAL)


def untouched(height: int, width: int) -> Preprocess:
    return Preprocess(height, width, "none", height, width, "bicubic", **NORMAL)


def apply_all(pixels: CppPixels, preprocess: Preprocess, frame: Frame) -> Bytes:
    """What all kernels of this processor give."""
    found = []
    for kernels in pixels.list_kernels():
        status, out = pixels.open(preprocess, kernels).apply(frame)
        assert status == "ok"
        found.append(out)
        np.testing.assert_array_equal(out, found[0], kernels)
    return found[0]


def draw_planes(height: int, width: int, seed: int) -> tuple[Bytes, Bytes, Bytes]:
    """Y, U and V of any value, also those that the limited range does not have."""
    generator = np.random.default_rng(seed)
    half = (height + 1) // 2, (width + 1) // 2
    y, u, v = (generator.integers(0, 256, size, np.uint8) for size in ((height, width), half, half))
    return y, u, v


def convert_yuv(y: Bytes, u: Bytes, v: Bytes) -> npt.NDArray[np.float64]:
    """ITU-R BT.601 with limited range in real numbers, from its definition; not rounded."""
    kr, kb = 0.299, 0.114
    height, width = y.shape
    pb, pr = ((c.repeat(2, 0).repeat(2, 1)[:height, :width] - 128.0) / 224 for c in (u, v))
    luma = (y - 16.0) / 219
    red = luma + 2 * (1 - kr) * pr
    blue = luma + 2 * (1 - kb) * pb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.stack([red, green, blue], 2) * 255, 0, 255)


@pytest.mark.parametrize("upside_down", [False, True])
@pytest.mark.parametrize("gap", [0, 1, 61])
@pytest.mark.parametrize("layout", ["rgb", "bgr", "rgba", "bgra", "grey"])
def test_packed_layouts_of_any_width_are_the_same_as_rgb(pixels, layout, gap, upside_down):
    for width in (*range(1, 40), 64, 100):
        rgb = np.array(make_photo(5, width, width))
        if layout == "grey":
            rgb[:] = rgb[..., 1:2]
        frame = pack_frame(rgb, layout, gap=gap, upside_down=upside_down)
        np.testing.assert_array_equal(apply_all(pixels, untouched(5, width), frame), rgb)
        np.testing.assert_array_equal(apply_all(pixels, SQUASH, frame), SQUASH.fit(Image.fromarray(rgb)))


@settings(deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 50),
    seed=st.integers(0, 9),
    gap=st.sampled_from([0, 1, 14]),
    plane_gap=st.sampled_from([0, 3, 10]),
    apart=st.sampled_from([0, 5]),
)
def test_planes_are_within_a_grey_level_of_the_formula(pixels, height, width, seed, gap, plane_gap, apart):
    y, u, v = draw_planes(height, width, seed)
    expected = convert_yuv(y, u, v)
    both = []
    for layout in ("nv12", "i420"):
        frame = pack_planes(y, u, v, layout, gap=gap, plane_gap=plane_gap, apart=apart)
        both.append(apply_all(pixels, untouched(height, width), frame))
        assert np.abs(both[-1] - expected).max() < 0.52
    np.testing.assert_array_equal(both[0], both[1])


@pytest.mark.parametrize("yuv", [(16, 128, 128), (235, 128, 128), (0, 0, 0), (255, 255, 255), (82, 90, 240)])
def test_planes_of_one_colour_are_exact(pixels, yuv):
    y, u, v = (np.full(size, value, np.uint8) for size, value in zip(((2, 2), (1, 1), (1, 1)), yuv, strict=True))
    found = apply_all(pixels, untouched(2, 2), pack_planes(y, u, v, "nv12"))
    expected = convert_yuv(y, u, v)
    np.testing.assert_array_equal(found, np.rint(expected))


@pytest.mark.parametrize("layout", ["nv12", "i420"])
@pytest.mark.parametrize("size", [(64, 96), (63, 95), (1, 1), (2, 1), (301, 41), (40, 303)])
@pytest.mark.parametrize(
    "preprocess",
    [
        SQUASH,
        dataclasses.replace(SQUASH, resize="crop"),
        dataclasses.replace(SQUASH, resize="none", height=11, width=13),
        dataclasses.replace(SQUASH, interpolation="nearest"),
        dataclasses.replace(SQUASH, interpolation="bilinear", antialias=False),
    ],
    ids=["squash", "crop", "none", "nearest", "plain"],
)
def test_planes_are_resized_as_the_rgb_that_they_are(pixels, preprocess, size, layout):
    height, width = size
    frame = pack_planes(*draw_planes(height, width, 3), layout, gap=2)
    rgb = apply_all(pixels, untouched(height, width), frame)
    np.testing.assert_array_equal(apply_all(pixels, preprocess, frame), preprocess.fit(Image.fromarray(rgb)))


RGB = Frame(np.zeros(4 * 5 * 4, np.uint8), 5, 4)
NV12 = pack_planes(*draw_planes(4, 5, 0), "nv12")
I420 = pack_planes(*draw_planes(4, 5, 0), "i420")
MOST = 2**31 - 1


@pytest.mark.parametrize(
    ("frame", "status", "words"),
    [
        (dataclasses.replace(RGB, width=0), "image", "0 × 4 pixels are none"),
        (dataclasses.replace(RGB, height=0), "image", "5 × 0 pixels are none"),
        (dataclasses.replace(RGB, width=-5), "image", "-5 × 4 pixels are none"),
        (dataclasses.replace(RGB, height=-(2**31)), "image", "pixels are none"),
        (dataclasses.replace(RGB, width=MOST, height=MOST), "image", "more than 2³⁰ bytes"),
        (dataclasses.replace(RGB, width=MOST, height=1, format="rgba"), "image", "more than 2³⁰ bytes"),
        (dataclasses.replace(RGB, height=MOST), "image", "more than 2³⁰ bytes"),
        (dataclasses.replace(RGB, stride=2**63 - 1), "image", "more than 2³⁰ bytes"),
        (dataclasses.replace(RGB, stride=-(2**63)), "image", "more than 2³⁰ bytes"),
        (dataclasses.replace(RGB, stride=2**28 + 2**27), "image", "more than 2³⁰ bytes"),
        (dataclasses.replace(NV12, plane_stride=2**63 - 1), "image", "more than 2³⁰ bytes"),
        (dataclasses.replace(RGB, offset=None), "argument", "data of the image is null"),
        (dataclasses.replace(RGB, stride=14), "argument", "stride = 14 of the image is less than the 15 bytes"),
        (dataclasses.replace(RGB, stride=-14), "argument", "stride = -14 of the image is less than the 15 bytes"),
        (dataclasses.replace(RGB, format="rgba", stride=19), "argument", "less than the 20 bytes"),
        (dataclasses.replace(RGB, format="99"), "argument", "format 99 of the image is unknown"),
        (dataclasses.replace(RGB, format="-1"), "argument", "format -1 of the image is unknown"),
        (dataclasses.replace(NV12, stride=-5), "argument", "stride = -5 of an image in planes is negative"),
        (dataclasses.replace(NV12, stride=4), "argument", "stride = 4 of the image is less than the 5 bytes"),
        (dataclasses.replace(NV12, plane_stride=5), "argument", "plane_stride = 5 of the image is less than the 6"),
        (dataclasses.replace(NV12, plane_stride=-6), "argument", "plane_stride = -6 of the image is less than"),
        (dataclasses.replace(I420, plane_stride=2), "argument", "plane_stride = 2 of the image is less than the 3"),
        (dataclasses.replace(NV12, planes=(20, 25)), "argument", "planes[1] of an NV12 image is not null"),
        (dataclasses.replace(I420, planes=(20, None)), "argument", "one of its two planes"),
        (dataclasses.replace(I420, planes=(None, 26)), "argument", "one of its two planes"),
    ],
)
def test_impossible_images_are_refused(pixels, frame, status, words):
    opened = pixels.open(SQUASH)
    assert opened.apply(frame)[0] == status
    assert words in opened.message()
    assert opened.apply(RGB)[0] == "ok"  # nothing is left of it


def test_image_of_more_than_a_gibibyte_by_its_stride_is_read_up_to_there(pixels):
    """Only the size is judged: the memory between rows is not read."""
    frame = Frame(np.zeros(15, np.uint8), 5, 1, stride=2**40)
    assert pixels.open(SQUASH).apply(frame)[0] == "ok"


def test_strip_whose_weights_would_not_fit_into_memory_is_refused(pixels):
    frame = Frame(np.zeros(2**28, np.uint8), 2**28, 1, "grey")
    opened = pixels.open(SQUASH)
    assert opened.apply(frame)[0] == "image"
    assert "too many to resize" in opened.message()
