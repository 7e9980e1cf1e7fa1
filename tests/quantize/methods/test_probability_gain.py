"""Gains of softmax's rows: exact in float, finer in INT8."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgevit.core.quantization import Quantization
from edgevit.quantize.grid import Grid
from edgevit.quantize.methods.probability_gain import choose_gain
from edgevit.quantize.plan import apply_plan
from tests.support.quantized import fit_sites
from tests.support.small_graphs import make_graph, make_pixels, run_graph


def test_choose_gain_brings_the_largest_of_each_row_to_one() -> None:
    largest = np.array([[0.5, 0.02, 1.0], [0.25, 1e-9, 0.1]], np.float32)
    gain = choose_gain(largest)
    assert gain.shape == (1, 2, 3, 1)
    np.testing.assert_allclose(gain[0, :, :, 0] * largest, [[1.0, 1.0, 1.0], [1.0, 64e-9, 1.0]], rtol=1e-6)


@pytest.mark.parametrize(("family", "block"), [("vit", "blocks.0"), ("swin", "layers.0.blocks.1")])
def test_apply_plan_with_a_gain_and_a_fine_grid_changes_nothing(family: str, block: str) -> None:
    images = make_pixels(family)
    recipe = Quantization(products="both", sqnr_db=-20, rounding="nearest", observer="minmax")
    base, plan, _ = fit_sites(make_graph(family), images, recipe, "openvino")
    name = f"{block}.attn/context"
    site = plan.sites[name]
    assert site.gain is not None
    assert site.gain.max() > 1.5
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
