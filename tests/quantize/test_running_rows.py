"""Rows of probabilities that are brought to one height at run time: exact in float, and only where it pays."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgevit.core.quantization import Quantization
from edgevit.graph.graph import Graph
from edgevit.quantize.grid import Grid
from edgevit.quantize.plan import QuantizationPlan, apply_plan
from edgevit.quantize.running_rows import RunningRows, choose_running_rows
from edgevit.quantize.sensitivity import rank_sites
from tests.support.quantized import fit_sites, quantize_graph
from tests.support.small_graphs import find_node, make_graph, make_pixels, run_graph

BLOCKS = {"vit": "blocks.0", "swin": "layers.0.blocks.1"}
RECIPE = Quantization(products="both", sqnr_db=-20, rounding="nearest", observer="minmax")


@cache
def fit(family: str) -> tuple[Graph, QuantizationPlan]:
    return fit_sites(make_graph(family), make_pixels(family), RECIPE, "openvino")[:2]


def run_rows(plan: QuantizationPlan, name: str, grid: Grid) -> QuantizationPlan:
    site = plan.sites[name]
    running = dataclasses.replace(site, gain=None, running_rows=True, grids=(grid, site.grids[1]))
    return dataclasses.replace(plan, sites={**plan.sites, name: running})


def measure(found: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> float:
    return float(np.square(found - wanted).sum() / np.square(wanted).sum())


@pytest.mark.parametrize("family", BLOCKS)
def test_apply_plan_with_running_rows_changes_nothing_but_by_its_grid(family: str) -> None:
    base, plan = fit(family)
    name, images = f"{BLOCKS[family]}.attn/context", make_pixels(family)
    graph = apply_plan(base, run_rows(plan, name, Grid(1 / 255, 0, 0, 255)), [name])
    # Without its pairs, what is left is the order of operations.
    for node in [node for node in graph.model.graph if node.op_type in ("QuantizeLinear", "DequantizeLinear")]:
        node.outputs[0].replace_all_uses_with(node.inputs[0])
        graph.model.graph.remove(node)
    wanted = run_graph(base, images)[0]
    np.testing.assert_allclose(run_graph(graph, images)[0], wanted, atol=1e-5 * float(np.abs(wanted).max()))
    assert name.replace("context", "softmax") not in {node.name for node in graph.model.graph}


@pytest.mark.parametrize("family", BLOCKS)
def test_running_rows_are_quantised_more_finely_than_rows_with_a_gain(family: str) -> None:
    base, plan = fit(family)
    name, unseen = f"{BLOCKS[family]}.attn/context", make_pixels(family, 8, seed=5)
    wanted = run_graph(base, unseen)[0]
    gain = measure(run_graph(apply_plan(base, plan, [name]), unseen)[0], wanted)
    running = run_rows(plan, name, Grid(1 / 255, 0, 0, 255))
    assert measure(run_graph(apply_plan(base, running, [name]), unseen)[0], wanted) < gain


@pytest.mark.parametrize("batch", [1, 3])
def test_openvino_computes_running_rows_as_onnxruntime_does(batch: int, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    base, plan = fit("vit")
    for name in [name for name, site in plan.sites.items() if site.gain is not None]:
        plan = run_rows(plan, name, Grid(1 / 255, 0, 0, 255))
    assert any(site.running_rows for site in plan.sites.values())
    graph = apply_plan(base, plan)
    graph.save(tmp_path / "rows.onnx")
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    engine = openvino.Core().compile_model(str(tmp_path / "rows.onnx"), "CPU", settings)
    for pixels in make_pixels("vit", batch, seed=2):
        found = engine({0: pixels})[0]
        wanted = run_graph(graph, [pixels])[0]
        assert measure(found, wanted) < 1e-3  # codes differ where a value lies between two


@cache
def rank(family: str = "vit") -> dict[str, float]:
    base, plan = fit(family)
    return rank_sites(base, plan, make_pixels(family))


def choose(gain: float, sqnr_db: float, family: str = "vit") -> tuple[QuantizationPlan, RunningRows]:
    base, plan = fit(family)
    images, damage = make_pixels(family), rank(family)
    return plan, choose_running_rows(base, plan, "u8_zero", images, damage, sqnr_db=sqnr_db, gain=gain)


def test_rows_run_where_decibels_are_wanted_and_cheap() -> None:
    plan, found = choose(gain=1e-6, sqnr_db=100)
    running = {name for name, site in found.plan.sites.items() if site.running_rows}
    assert running <= {name for name, site in plan.sites.items() if site.gain is not None}
    assert running
    for name in running:
        assert found.plan.sites[name].gain is None
        assert found.plan.sites[name].grids[0] == Grid.from_range("u8_zero", 0.0, 1.0)
        assert found.plan.sites[name].grids[1] == plan.sites[name].grids[1]
        assert found.damage[name] > rank()[name]
    assert {name: db for name, db in found.damage.items() if name not in running}.items() <= rank().items()
    base, images = fit("vit")[0], make_pixels("vit")
    wanted = run_graph(base, images)[0]
    before, after = (measure(run_graph(apply_plan(base, plan), images)[0], wanted) for plan in (plan, found.plan))
    assert after < before
    assert f"{-10 * np.log10(after):.1f} dB instead of {-10 * np.log10(before):.1f}" in found.note


@pytest.mark.parametrize(("gain", "sqnr_db"), [(100.0, 100.0), (1e-6, -20.0)])
def test_rows_keep_their_gains_where_that_is_dear_or_enough(gain: float, sqnr_db: float) -> None:
    plan, found = choose(gain, sqnr_db)
    assert found == RunningRows(plan, rank())


def test_a_build_says_that_rows_run_and_other_libraries_leave_them_alone() -> None:
    images = make_pixels("vit")
    recipe = dataclasses.replace(RECIPE, sqnr_db=100, float_gain=1e-6, float_share=0.0)
    graph, plan, record = quantize_graph(make_graph("vit"), images, recipe, "openvino")
    assert any(site.running_rows for site in plan.sites.values())
    assert any("at run time" in note for note in record.notes)
    assert find_node(graph, "blocks.0.attn/context/powers").op_type == "Exp"
    _, plan, record = quantize_graph(make_graph("vit"), images, recipe, "onnxruntime")
    assert not any(site.running_rows for site in plan.sites.values())
    assert not any("at run time" in note for note in record.notes)
