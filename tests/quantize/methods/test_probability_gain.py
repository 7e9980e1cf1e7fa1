"""Gains of softmax's rows: exact in float, finer in INT8."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgevit.core.quantization import Quantization
from edgevit.quantize.grid import Grid
from edgevit.quantize.methods.probability_gain import choose_gain, expect_largest
from edgevit.quantize.plan import apply_plan
from tests.support.quantized import fit_sites
from tests.support.small_graphs import make_graph, make_pixels, run_graph


@given(npst.arrays(np.float32, (2, 3), elements=st.floats(0, 1, width=32)))
def test_choose_gain_leaves_room_between_the_largest_that_was_seen_and_one(seen: npt.NDArray[np.float32]) -> None:
    gain = choose_gain(seen)
    assert gain.shape == (1, 2, 3, 1)
    raised = gain[0, :, :, 0] * seen
    assert (gain >= 1).all()
    assert (raised <= 1 + 1e-6).all()
    assert (raised >= seen).all()
    inside = (seen > 0.01) & (seen < 0.99)
    np.testing.assert_array_less(raised[inside], 1.0)  # an image that was not seen may have more
    np.testing.assert_array_less(seen[inside], raised[inside])  # and codes are finer all the same


def test_probabilities_that_calibration_has_not_seen_are_not_clipped_at_what_it_has() -> None:
    """A row that was spread over five tokens, and looks at three of them on another image."""
    seen = np.full((1, 4), 0.2, np.float32)
    gain = choose_gain(seen)[0, :, :, 0]
    grid = Grid.from_range("u8", 0.0, float((expect_largest(seen) * gain).max()))
    unseen = np.array([0.29, 0.29, 0.29, 0.13], np.float32)
    restored = grid.apply(unseen[None] * gain) / gain
    np.testing.assert_allclose(restored[0], unseen, atol=float(grid.scale) / float(gain.min()))


@pytest.mark.parametrize(("family", "block"), [("vit", "blocks.0"), ("swin", "layers.0.blocks.1")])
def test_apply_plan_with_a_gain_and_a_fine_grid_changes_nothing(family: str, block: str) -> None:
    images = make_pixels(family)
    recipe = Quantization(products="both", sqnr_db=-20, rounding="nearest", observer="minmax")
    base, plan, _ = fit_sites(make_graph(family), images, recipe, "openvino")
    name = f"{block}.attn/context"
    site = plan.sites[name]
    assert site.gain is not None
    assert site.gain.max() > 1.3
    logits = run_graph(base, images)[0]
    noise = {}
    for label, gain, grid in (
        ("gain", site.gain, site.grids[0]),
        ("none", None, Grid(1 / 255, 0, 0, 255)),
        ("wrong range", site.gain, Grid(0.5 / 255, 0, 0, 255)),
    ):
        plan.sites[name] = dataclasses.replace(site, gain=gain, grids=(grid, site.grids[1]))
        answer = run_graph(apply_plan(base, plan, [name]), images)[0]
        noise[label] = float(np.square(answer - logits).sum() / np.square(logits).sum())
    # The rest of the noise is that of the values, which all three share.
    assert noise["gain"] < noise["none"]
    assert noise["gain"] < noise["wrong range"]
    assert noise["gain"] < 1e-3
