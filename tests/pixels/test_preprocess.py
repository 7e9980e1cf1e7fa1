from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgevit.core.errors import BundleError, DataError
from edgevit.pixels.preprocess import Preprocess, to_nchw
from tests.support.photos import make_photo

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CENTER = Preprocess(224, 224, "shortest", 248, 248, "bicubic", **IMAGENET, crop_ratio=0.9)

preprocesses = st.builds(
    Preprocess,
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    resize=st.sampled_from(["shortest", "longest", "squash", "none"]),
    resize_height=st.integers(1, 80),
    resize_width=st.integers(1, 80),
    interpolation=st.sampled_from(["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]),
    mean=st.tuples(*[st.floats(-2, 2)] * 3),
    std=st.tuples(*[st.floats(0.1, 2)] * 3),
    rescale=st.floats(1e-3, 1),
    resampling=st.sampled_from(["pillow", "torch"]),
    crop_rounding=st.sampled_from(["round", "floor"]),
    fill=st.tuples(*[st.integers(0, 255)] * 3),
    crop_ratio=st.none() | st.floats(0.5, 1.5),
)


@settings(deadline=None)
@given(preprocesses, st.integers(1, 90), st.integers(1, 90))
def test_apply_when_any_size_gives_pixels_of_the_models_size(preprocess: Preprocess, height: int, width: int) -> None:
    pixels = preprocess.apply(make_photo(height, width))
    assert pixels.shape == (preprocess.height, preprocess.width, 3)
    assert pixels.dtype == np.uint8


@settings(deadline=None)
@given(preprocesses, st.integers(1, 90), st.integers(1, 90), st.tuples(*[st.integers(0, 255)] * 3))
def test_apply_when_image_is_one_colour_gives_that_colour_and_the_fill(
    preprocess: Preprocess, height: int, width: int, colour: tuple[int, int, int]
) -> None:
    pixels = preprocess.apply(Image.new("RGB", (width, height), colour))
    assert {tuple(p) for p in pixels.reshape(-1, 3).tolist()} <= {colour, preprocess.fill}


def test_apply_when_crop_is_larger_than_the_image_pads_with_the_fill_around_it() -> None:
    preprocess = Preprocess(4, 5, "none", 4, 5, "bicubic", **IMAGENET, fill=(1, 2, 3))
    pixels = preprocess.apply(np.full((1, 2, 3), 200, np.uint8))
    expected = np.tile(np.array([1, 2, 3], np.uint8), (4, 5, 1))
    expected[1, 1:3] = 200
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(("rounding", "first"), [("round", 2), ("floor", 1)])
def test_apply_when_crop_is_off_centre_by_half_a_pixel_rounds_as_told(rounding: Any, first: int) -> None:
    preprocess = Preprocess(1, 2, "none", 1, 2, "bicubic", **IMAGENET, crop_rounding=rounding)
    image = np.repeat(np.arange(5, dtype=np.uint8)[None, :, None], 3, axis=2)  # 1.5 columns on each side
    assert preprocess.apply(image)[0, :, 0].tolist() == [first, first + 1]


def test_apply_when_source_is_path_bytes_array_or_image_gives_the_same(tmp_path: Path) -> None:
    photo = make_photo(120, 90)
    path = tmp_path / "photo.png"
    photo.save(path)
    expected = CENTER.apply(photo)
    for source in (path, str(path), path.read_bytes(), np.asarray(photo)):
        np.testing.assert_array_equal(CENTER.apply(source), expected)


def test_apply_when_jpeg_is_far_larger_decodes_it_in_full() -> None:
    stream = io.BytesIO()
    make_photo(1600, 1200).save(stream, "JPEG", quality=95)
    small = Preprocess(32, 32, "squash", 32, 32, "nearest", **IMAGENET)
    full = Image.open(io.BytesIO(stream.getvalue()))
    full.load()
    np.testing.assert_array_equal(small.apply(stream.getvalue()), small.apply(full))


def test_apply_when_result_is_written_to_does_not_touch_the_source() -> None:
    preprocess = Preprocess(4, 4, "none", 4, 4, "bicubic", **IMAGENET)
    source = np.zeros((4, 4, 3), np.uint8)
    preprocess.apply(source)[:] = 9
    assert not source.any()


def test_apply_when_image_is_an_extreme_strip_refuses_it_by_name() -> None:
    with pytest.raises(DataError, match=r"strip: 1 × 3000000 pixels would become 248 ×"):
        CENTER.apply(np.zeros((3_000_000, 1, 3), np.uint8), name="strip")


def test_normalize_when_given_pixels_computes_mean_and_std_on_rescaled_values() -> None:
    pixels = np.array([[[0, 128, 255]]], np.uint8)
    expected = (np.array([0, 128 / 255, 1]) - IMAGENET["mean"]) / IMAGENET["std"]
    values = CENTER.normalize(pixels)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[0, 0], expected, rtol=1e-5)


@settings(deadline=None)
@given(preprocesses, st.integers(0, 255))
def test_affine_when_applied_equals_normalize(preprocess: Preprocess, level: int) -> None:
    pixels = np.full((2, 2, 3), level, np.uint8)
    scale, offset = preprocess.affine()
    np.testing.assert_allclose(pixels * scale + offset, preprocess.normalize(pixels), rtol=1e-4, atol=1e-3)


def test_to_nchw_when_given_a_batch_or_an_image_moves_channels_first() -> None:
    batch = np.arange(2 * 4 * 5 * 3).reshape(2, 4, 5, 3)
    moved = to_nchw(batch)
    assert moved.shape == (2, 3, 4, 5)
    assert moved.flags.c_contiguous
    assert moved[1, 2, 3, 4] == batch[1, 3, 4, 2]
    np.testing.assert_array_equal(to_nchw(batch[1]), moved[1])


@settings(deadline=None)
@given(preprocesses)
def test_to_data_when_through_json_comes_back_equal(preprocess: Preprocess) -> None:
    data = json.loads(json.dumps(preprocess.to_data()))
    assert Preprocess.from_data(data, "manifest.json", BundleError) == preprocess


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"std": (0.2, 0.0, 0.2)}, "std"),
        ({"std": (0.2, float("nan"), 0.2)}, "std"),
        ({"std": (0.2, -1.0, 0.2)}, "std"),
        ({"mean": (float("inf"), 0.0, 0.0)}, "mean"),
        ({"rescale": 0.0}, "rescale"),
        ({"rescale": float("nan")}, "rescale"),
        ({"height": 0}, "height"),
        ({"resize_width": 10**6}, "resize_width"),
        ({"fill": (0, 0, 256)}, "fill"),
        ({"crop_ratio": -0.5}, "crop_ratio"),
        ({"interpolation": "cubic"}, "interpolation"),
        ({"resize": "stretch"}, "resize"),
        ({"resampling": "simd"}, "resampling"),
        ({"crop_rounding": "up"}, "crop_rounding"),
    ],
)
def test_preprocess_when_value_is_impossible_refuses_it(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(CENTER, **changes)
    with pytest.raises(BundleError, match=named):
        Preprocess.from_data(CENTER.to_data() | changes, "manifest.json", BundleError)


def test_from_data_when_key_is_unknown_refuses_it() -> None:
    with pytest.raises(BundleError, match="unknown key crop"):
        Preprocess.from_data(CENTER.to_data() | {"crop": "center"}, "manifest.json", BundleError)


def test_with_size_when_publisher_states_a_ratio_uses_it() -> None:
    larger = CENTER.with_size(384, 384)
    assert (larger.height, larger.resize_height) == (384, 426)  # floor(384 / 0.9); 384 · 248 / 224 would give 425


def test_with_size_when_no_ratio_is_stated_keeps_that_of_the_sizes() -> None:
    deit = Preprocess(224, 224, "squash", 256, 256, "bicubic", **IMAGENET)
    larger = deit.with_size(384, 192)
    assert (larger.height, larger.width, larger.resize_height, larger.resize_width) == (384, 192, 438, 219)
    assert deit.with_size(224, 224) == deit


@pytest.mark.parametrize(
    ("preprocess", "text"),
    [
        (CENTER, "resize short side to 248 (bicubic), centre crop 224 × 224"),
        (dataclasses.replace(CENTER, resize="longest"), "resize long side to 248 (bicubic), centre crop 224 × 224"),
        (dataclasses.replace(CENTER, resize="squash"), "resize to 248 × 248 (bicubic), centre crop 224 × 224"),
        (dataclasses.replace(CENTER, resize="none"), "centre crop 224 × 224"),
        (dataclasses.replace(CENTER, resize_width=200), "resize to cover 248 × 200 (bicubic), centre crop 224 × 224"),
        (Preprocess(96, 64, "squash", 96, 64, "bilinear", **IMAGENET), "resize to 96 × 64 (bilinear)"),
        (Preprocess(96, 64, "squash", 96, 64, "box", **IMAGENET, rescale=1), "resize to 96 × 64 (box), times 1"),
    ],
)
def test_describe_when_called_says_each_step_once(preprocess: Preprocess, text: str) -> None:
    assert preprocess.describe() == text + ", mean 0.485 0.456 0.406, std 0.229 0.224 0.225"
