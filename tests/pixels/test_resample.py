"""Resizing bit for bit as torchvision and Pillow do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgevit.pixels.resample import KERNELS, integer_weights, resample_pillow, resample_plain, resample_torch
from tests.support.photos import make_photo
from tests.support.reference import import_torchvision


def resize_by_torchvision(picture: Image.Image, width: int, height: int, interpolation: str) -> np.ndarray:
    import_torchvision()
    import torch
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    tensor = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    result = functional.resize(tensor, [height, width], interpolation=InterpolationMode(interpolation), antialias=True)
    array: np.ndarray = result.permute(1, 2, 0).numpy()
    return array


@pytest.mark.parametrize("interpolation", KERNELS)
@given(
    old=st.tuples(st.integers(8, 150), st.integers(8, 150)),
    new=st.tuples(st.integers(4, 120), st.integers(4, 120)),
    seed=st.integers(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_torch_resize_of_any_size_equals_torchvision(interpolation, old, new, seed):
    height, width = old
    photo = make_photo(height, width, seed)
    expected = resize_by_torchvision(photo, new[1], new[0], interpolation)
    np.testing.assert_array_equal(np.asarray(resample_torch(photo, new[1], new[0], interpolation)), expected)


@pytest.mark.parametrize("interpolation", KERNELS)
def test_torch_resize_of_real_photos_equals_torchvision(interpolation, assets):
    paths = sorted((assets / "imagenet" / "calibration").iterdir())[::50]
    for path in paths:
        photo = Image.open(path).convert("RGB")
        width, height = 248, max(1, int(248 * photo.height / photo.width))
        expected = resize_by_torchvision(photo, width, height, interpolation)
        np.testing.assert_array_equal(np.asarray(resample_torch(photo, width, height, interpolation)), expected)


@pytest.mark.skipif(int(Image.__version__.split(".")[0]) < 13, reason="Pillow before 13 orders its passes differently")
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "box", "hamming", "nearest"])
@given(old=st.tuples(st.integers(1, 90), st.integers(1, 90)), new=st.tuples(st.integers(1, 90), st.integers(1, 90)))
@settings(max_examples=40, deadline=None)
def test_pillow_resize_equals_pillow(interpolation, old, new):
    photo = make_photo(*old)
    expected = photo.resize((new[1], new[0]), Image.Resampling[interpolation.upper()])
    assert np.array_equal(np.asarray(resample_pillow(photo, new[1], new[0], interpolation)), np.asarray(expected))


def resample_without_antialiasing(picture, width, height, interpolation, box=None):
    return resample_plain(picture, width, height, box)


@pytest.mark.parametrize("resample", [resample_pillow, resample_torch, resample_without_antialiasing])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "box", "hamming", "nearest"])
@given(
    old=st.tuples(st.integers(1, 120), st.integers(1, 300)),
    new=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_part_of_a_resize_equals_that_part_of_the_whole(resample, interpolation, old, new, data):
    rows = sorted(data.draw(st.lists(st.integers(0, new[0]), min_size=2, max_size=2, unique=True)))
    columns = sorted(data.draw(st.lists(st.integers(0, new[1]), min_size=2, max_size=2, unique=True)))
    turned = data.draw(st.booleans())  # which of the passes comes first depends on the shape
    height, width = old[::-1] if turned else old
    photo = make_photo(height, width, 1)
    whole = np.asarray(resample(photo, new[1], new[0], interpolation))
    part = resample(photo, new[1], new[0], interpolation, (columns[0], rows[0], columns[1], rows[1]))
    np.testing.assert_array_equal(np.asarray(part), whole[slice(*rows), slice(*columns)])


@pytest.mark.skipif(int(Image.__version__.split(".")[0]) < 13, reason="Pillow before 13 orders its passes differently")
@pytest.mark.parametrize("size", [(300, 40), (40, 300)])
def test_part_of_a_resize_by_pillow_is_the_same_in_either_order_of_the_passes(size):
    photo = make_photo(size[0], size[1], 2)
    whole = photo.resize((32, 24), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(resample_pillow(photo, 32, 24, "bicubic")), np.asarray(whole))
    part = resample_pillow(photo, 32, 24, "bicubic", (8, 4, 24, 20))
    assert np.array_equal(np.asarray(part), np.asarray(whole.crop((8, 4, 24, 20))))


@pytest.mark.parametrize("interpolation", KERNELS)
def test_torch_resize_of_a_large_photo_whose_sums_float32_does_not_hold_equals_torchvision(interpolation):
    photo = make_photo(700, 900, 3)
    photo.paste((255, 255, 255), (0, 0, 450, 700))
    expected = resize_by_torchvision(photo, 40, 30, interpolation)
    np.testing.assert_array_equal(np.asarray(resample_torch(photo, 40, 30, interpolation)), expected)


@given(source=st.integers(1, 400), target=st.integers(1, 400), interpolation=st.sampled_from(sorted(KERNELS)))
def test_integer_weights_add_up_to_one_within_rounding(source, target, interpolation):
    starts, weights, precision = integer_weights(source, target, interpolation)
    one = 1 << precision
    assert np.abs(weights.sum(axis=1) - one).max() <= weights.shape[1]
    assert starts.min() >= 0
    taps = np.where(weights != 0, np.arange(weights.shape[1]) + starts[:, None], 0)
    assert taps.max() < source
