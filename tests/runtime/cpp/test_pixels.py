"""Preprocessing in C++ equals Python's to the byte, by the kernels of every instruction set."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgevit.core.errors import DataError
from edgevit.pixels.preprocess import INTERPOLATIONS, Preprocess, Resize
from tests.support.cpp_pixels import RESAMPLINGS, RESIZES, CppPixels, CppPreprocess, pack_frame
from tests.support.photos import make_photo

NORMAL: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
CENTER = Preprocess(224, 224, "shortest", 248, 248, "bicubic", **NORMAL)

sides = st.integers(1, 130) | st.sampled_from([1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 257])


@st.composite
def preprocesses(draw: st.DrawFn) -> Preprocess:
    interpolation = draw(st.sampled_from(INTERPOLATIONS))
    return Preprocess(
        draw(sides),
        draw(sides),
        draw(st.sampled_from(RESIZES)),
        *(draw(sides.map(lambda side: (side, side)) | st.tuples(sides, sides))),
        interpolation,
        **NORMAL,
        resampling=draw(st.sampled_from(RESAMPLINGS)),
        crop_rounding=draw(st.sampled_from(["round", "floor"])),
        fill=draw(st.tuples(*[st.integers(0, 255)] * 3)),
        antialias=interpolation != "bilinear" or draw(st.booleans()),
    )


def open_best(pixels: CppPixels, preprocess: Preprocess) -> CppPreprocess:
    opened = pixels.open(preprocess)
    assert opened is not None
    return opened


def compare(pixels: CppPixels, preprocess: Preprocess, photo: Image.Image) -> None:
    """Assert that all kernels of this processor give Python's pixels, or refuse the image in its words."""
    refusal, expected = "", None
    try:
        expected = preprocess.fit(photo)
    except DataError as exc:
        refusal = exc.message
    for kernels in pixels.list_kernels():
        opened = pixels.open(preprocess, kernels)
        status, found = opened.apply(pack_frame(np.asarray(photo), "rgb"))
        assert (status, opened.message()) == ("image" if refusal else "ok", refusal), kernels
        if expected is not None:
            np.testing.assert_array_equal(found, expected, kernels)


@settings(max_examples=150, deadline=None)
@given(preprocess=preprocesses(), height=sides, width=sides, seed=st.integers(0, 5))
def test_apply_of_any_size_and_options_equals_python(pixels, preprocess, height, width, seed):
    compare(pixels, preprocess, make_photo(height, width, seed))


@pytest.mark.parametrize("resampling", RESAMPLINGS)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_apply_of_real_photos_equals_python(pixels, interpolation, resampling, assets: Path):
    paths = sorted((assets / "imagenet" / "validation").iterdir())
    start = INTERPOLATIONS.index(interpolation) + 6 * (resampling == "torch")  # others for each
    photos = [Image.open(path).convert("RGB") for path in paths[start::60]]
    for photo, resize in itertools.product(photos, RESIZES):
        preprocess = dataclasses.replace(CENTER, interpolation=interpolation, resampling=resampling, resize=resize)
        compare(pixels, preprocess, photo)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (5000, 3), (3, 5000), (2, 2), (700, 1900)])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("resampling", RESAMPLINGS)
def test_apply_of_an_extreme_size_equals_python(pixels, size, interpolation, resampling):
    photo = make_photo(*size)
    for resize in RESIZES:
        preprocess = dataclasses.replace(
            CENTER, interpolation=interpolation, resampling=resampling, resize=resize, resize_width=250
        )
        compare(pixels, preprocess, photo)


@pytest.mark.parametrize("size", [(300, 4001), (2999, 41)])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_apply_of_black_and_white_columns_which_overshoot_most_equals_python(pixels, size, interpolation):
    picture = np.random.default_rng(1).choice(np.array([0, 255], np.uint8), (*size, 3))
    for resampling, target in itertools.product(RESAMPLINGS, [(24, 20), (310, 299)]):
        preprocess = Preprocess(*target, "squash", *target, interpolation, **NORMAL, resampling=resampling)
        compare(pixels, preprocess, Image.fromarray(picture))


def test_apply_without_antialiasing_of_real_photos_equals_python(pixels, assets: Path):
    for path, resize in zip(sorted((assets / "imagenet" / "validation").iterdir())[::40], itertools.cycle(RESIZES)):
        preprocess = dataclasses.replace(CENTER, interpolation="bilinear", antialias=False, resize=resize)
        compare(pixels, preprocess, Image.open(path).convert("RGB"))


@settings(max_examples=200, deadline=None)
@given(
    resize=st.sampled_from(["shortest", "longest", "crop", "pad"]),
    size=st.tuples(st.integers(1, 2**15), st.integers(1, 60)),
    turned=st.booleans(),
    target=st.tuples(st.integers(1, 400), st.integers(1, 400)) | st.integers(1, 400).map(lambda side: (side, side)),
)
def test_sizes_and_crops_of_long_strips_equal_pythons(
    pixels: CppPixels, resize: Resize, size: tuple[int, int], turned: bool, target: tuple[int, int]
) -> None:
    """Nearest takes no time, and shows where each pixel comes from."""
    height, width = size if turned else size[::-1]
    picture = np.arange(height * width, dtype="<u4").view(np.uint8).reshape(height, width, 4)[..., :3]
    preprocess = Preprocess(7, 9, resize, *target, "nearest", **NORMAL)
    compare(pixels, preprocess, Image.fromarray(np.ascontiguousarray(picture)))


def test_apply_to_a_size_that_was_seen_allocates_nothing(pixels):
    photos = [make_photo(100 + 37 * i, 900 - 41 * i, i) for i in range(16)]
    changes: list[dict[str, Any]] = [
        {"interpolation": "bicubic"},
        {"interpolation": "lanczos", "resampling": "torch"},
        {"interpolation": "nearest"},
        {"interpolation": "bilinear", "antialias": False},
    ]
    for change in changes:
        preprocess = dataclasses.replace(CENTER, **change)
        opened = open_best(pixels, preprocess)
        frames = [pack_frame(np.asarray(photo), "bgr") for photo in photos]
        calls = [(frame.in_memory(), np.empty((224, 224, 3), np.uint8)) for frame in frames]
        for image, out in calls:
            assert opened.call(image, out) == "ok"
        before = pixels.allocations()
        assert before > 0
        for image, out in calls:
            assert opened.call(image, out) == "ok"
        assert pixels.allocations() == before
        for photo, (_, out) in zip(photos, calls, strict=True):
            np.testing.assert_array_equal(out, preprocess.fit(photo))


def test_apply_to_more_sizes_than_are_kept_still_equals_python(pixels):
    opened = open_best(pixels, CENTER)
    photos = [make_photo(230 + i, 300 - i, 0) for i in range(40)]
    for photo in [*photos, *photos]:
        np.testing.assert_array_equal(opened.apply(pack_frame(np.asarray(photo), "rgb"))[1], CENTER.fit(photo))


def test_apply_from_several_threads_with_a_workspace_each_equals_python(pixels):
    photos = [make_photo(260 + 13 * i, 500 - 29 * i, i) for i in range(8)]
    expected = [CENTER.fit(photo) for photo in photos]
    wrong = []

    def work(first: int) -> None:
        opened = open_best(pixels, CENTER)
        for i in range(40):
            at = (first + i) % len(photos)
            if not np.array_equal(opened.apply(pack_frame(np.asarray(photos[at]), "rgb"))[1], expected[at]):
                wrong.append(at)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
