"""From a place in an image to the model's input and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgevit.core.errors import DataError
from edgevit.pixels.preprocess import Preprocess, Resize

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
RESIZES: list[Resize] = ["shortest", "longest", "squash", "crop", "pad", "none", "warp"]


def make_preprocess(resize: Resize, height: int, width: int, larger: int) -> Preprocess:
    warps = resize == "warp"
    extra = 0 if warps else larger
    return Preprocess(height, width, resize, height + extra, width + extra, "bilinear", **IMAGENET, antialias=not warps)


@settings(deadline=None)
@given(
    st.sampled_from(RESIZES),
    *[st.integers(2, 400)] * 5,
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5),
)
def test_place_when_sent_to_the_input_and_back_is_the_same(
    resize: Resize, height: int, width: int, rows: int, columns: int, larger: int, shares: list[tuple[float, float]]
) -> None:
    preprocess = make_preprocess(resize, height, width, larger)
    try:
        placement = preprocess.place(rows, columns)
    except DataError:
        assume(False)
    places = np.array(shares) * [columns, rows]
    there = placement.to_input(places)
    np.testing.assert_allclose(placement.to_image(there), places, atol=1e-6)
    if resize == "squash" and not larger:
        assert (there >= -1e-9).all()
        assert (there <= np.array([width, height]) + 1e-9).all()


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("size", [(90, 150), (150, 90), (100, 100)])
@pytest.mark.parametrize("larger", [0, 7, -9])
def test_a_spot_when_the_image_is_prepared_lies_where_it_is_placed(
    resize: Resize, size: tuple[int, int], larger: int
) -> None:
    """Independent of the formula: the centre of mass of a bright spot in the input itself."""
    height, width = size
    preprocess = make_preprocess(resize, 64, 80, larger)
    spot = np.array([width * 0.48, height * 0.53])
    y, x = np.mgrid[:height, :width] + 0.5
    values = 255 * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / (2 * 6**2))
    image = Image.fromarray(np.repeat(values.round().astype(np.uint8)[..., None], 3, axis=2))
    seen = preprocess.apply(image).astype(np.float64)[..., 0]
    y, x = np.mgrid[:64, :80] + 0.5
    found = np.array([(x * seen).sum(), (y * seen).sum()]) / seen.sum()
    wanted = preprocess.place(height, width).to_input(spot)
    np.testing.assert_allclose(found, wanted, atol=0.05)
