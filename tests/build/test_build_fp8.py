"""FP8 that loses accuracy, in the build as a whole: on the demonstration ViT with outliers beyond what E4M3 holds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import onnx
import pytest

import edgevit.build.set_back
from edgevit.build.build import build_model
from edgevit.build.conclude import BuildResult
from edgevit.build.prepare import prepare_graph
from edgevit.build.prepare_quantized import QuantizedGraph, prepare_quantized, requantize
from edgevit.build.set_back import REASON, STAGE, mark_float
from edgevit.cli.demo_models import MODELS, DigitFiles
from edgevit.core.cache import StageCache
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.quantization import Quantization
from edgevit.core.recipe import Recipe, load_recipe
from edgevit.core.target import Budget, load_target
from edgevit.graph.graph import Graph
from edgevit.measure.reference import generate_images
from edgevit.pixels.images import ImageSet
from tests.support.digits import write_few
from tests.support.outliers import plant_outliers
from tests.support.quantized import plan_fp8, quantize_fp8
from tests.support.small_models import VIT, make_model

# Nothing stays float for its noise, so that the budget is missed. 448 is 2.3e5 times the smallest number of E4M3.
QUANTIZATION = Quantization(images=40, float_share=0.0)
RECIPE = Recipe(precision="fp8", choice_images=100, quantization=QUANTIZATION)
RTX = load_target("rtx-40")
EXACT = Budget(max_drop_points=0.0)
FC2 = "blocks.0.mlp.fc2"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DigitFiles]:
    folder = tmp_path_factory.mktemp("planted")
    files = write_few(folder, 6)
    return plant_outliers(MODELS["vit"], folder / "model", blocks=(0,), channels=2, factor=1e6), files


def build(
    planted: tuple[Path, DigitFiles],
    out: Path,
    recipe: Recipe = RECIPE,
    budget: Budget = EXACT,
    progress: Progress = ignore_progress,
) -> BuildResult:
    pytest.importorskip("tensorrt_rtx")
    model, files = planted
    return build_model(
        model,
        RTX,
        out=out,
        recipe=recipe,
        budget=budget,
        calibration=files.calibration,
        validation=files.validation,
        progress=progress,
    )


@pytest.fixture(scope="module")
def built(planted: tuple[Path, DigitFiles], tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    return build(planted, tmp_path_factory.mktemp("built") / "bundle")


def test_budget_is_met_with_the_site_of_the_outliers_in_float(built: BuildResult) -> None:
    record = built.report.quantization["fp8"]
    assert record.set_back is not None
    assert record.set_back.before > 5, "or nothing was planted"
    assert record.set_back.after <= 0
    assert record.set_back.sites == record.fallback == (FC2,)
    found = {s.name: (s.precision, s.reason) for s in record.sites}
    assert found[FC2] == ("float", REASON)
    assert sum(precision == "fp8" for precision, _ in found.values()) == record.set_back.quantized - 1
    assert list(built.report.quantization) == ["fp8"]


def test_engine_that_is_packed_is_the_one_with_the_site_in_float(built: BuildResult) -> None:
    record, (variant,) = built.report.quantization["fp8"], built.report.variants
    assert variant.choice_accuracy.drop_points == record.set_back.after
    assert built.report.verdict.passed
    assert built.report.fusion["fp8"].products["fp8"] == record.set_back.quantized - 1
    assert built.report.op_counts["QuantizeLinear"] == record.set_back.quantized - 1, "a pair for the input of each"


def test_bundle_s_recipe_keeps_the_site_float_and_searches_no_more(
    built: BuildResult, planted: tuple[Path, DigitFiles], tmp_path: Path
) -> None:
    recipe = load_recipe(built.bundle / "recipe.toml")
    assert recipe.quantization.sites == {FC2: "float"}
    stages = set()
    again = build(planted, tmp_path / "b", recipe, Budget(100), lambda stage, done, total: stages.add(stage))
    assert stages
    assert not any(stage.startswith(STAGE) for stage in stages)
    plan = (built.bundle / "model.plan").read_bytes()
    assert (again.bundle / "model.plan").read_bytes() == plan


def test_random_pixels_mark_an_fp8_bundle_too(planted: tuple[Path, DigitFiles], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    result = build_model(planted[0], RTX, out=tmp_path / "b", recipe=RECIPE, calibration="random")
    assert result.manifest.precision == "fp8"
    assert result.manifest.figures["calibration"] == "calibrated on random pixels: for latency trials, not for use"
    assert result.manifest.for_trials


def test_equal_build_searches_once(built: BuildResult, planted: tuple[Path, DigitFiles], tmp_path: Path) -> None:
    stages = set()
    again = build(planted, tmp_path / "b", progress=lambda stage, done, total: stages.add(stage))
    assert stages
    assert not any(stage.startswith(STAGE) for stage in stages)
    assert again.report.quantization["fp8"] == built.report.quantization["fp8"]
    assert again.report.op_counts == built.report.op_counts


def test_site_that_the_recipe_pins_stays_fp8_and_the_reason_says_how_far_it_was_taken(
    planted: tuple[Path, DigitFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edgevit.build.set_back, "LARGEST_SHARE", 0.1)
    pinned = dataclasses.replace(QUANTIZATION, sites={FC2: "int8"})
    result = build(planted, tmp_path / "b", dataclasses.replace(RECIPE, quantization=pinned))
    record, (variant,) = result.report.quantization["fp8"], result.report.variants
    assert record.set_back is not None
    assert (record.set_back.sites, record.set_back.tried, record.fallback) == ((), 1, ())
    assert {s.name: s.precision for s in record.sites}[FC2] == "fp8"
    assert not result.report.verdict.passed
    assert "setting back 1 of 13 sites to float is not enough" in variant.reason
    assert "with more fp8 is not worth it" in variant.reason


def prepare(tmp_path: Path, **settings: Any) -> tuple[Path, QuantizedGraph]:
    """The float graph, and an FP8 graph of six images."""
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    for index, pixels in enumerate(generate_images(6, 40, 50, 3)):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    model, cache = make_model(VIT), StageCache(tmp_path / "cache")
    recipe = Recipe(quantization=Quantization(**settings))
    graph = prepare_graph(model, RTX, recipe, cache, ignore_progress)
    made = prepare_quantized("fp8", model, RTX, recipe, ImageSet.read(folder), cache, ignore_progress)
    return graph.path, made


def test_sites_are_ranked_also_where_none_may_stay_float_for_its_noise(tmp_path: Path) -> None:
    _, made = prepare(tmp_path, float_share=0.0)
    assert made.precision == "fp8"
    assert made.record.images == 6
    assert {s.name for s in made.record.worst} == {s.name for s in made.record.sites if s.precision == "fp8"}
    assert made.record.groups


def test_graph_is_written_again_without_a_site_and_nothing_is_calibrated(tmp_path: Path) -> None:
    base, made = prepare(tmp_path, float_share=0.0)
    again = tmp_path / "again.onnx"
    assert requantize(made.source, made.record, made.backend, again) == made.op_counts
    assert again.read_bytes() == made.path.read_bytes()
    site = "blocks.0.mlp.fc2"
    record = mark_float(made.record, (site,))
    requantize(made.source, record, made.backend, tmp_path / "partly.onnx")
    names = {i.name for i in onnx.load(tmp_path / "partly.onnx").graph.initializer}
    assert f"{site}.weight.codes" not in names
    assert f"{site}.weight.codes" in {i.name for i in onnx.load(made.path).graph.initializer}
    float_graph = {i.name for i in Graph.load(base).model.graph.initializers.values()}
    assert names & float_graph >= {n for n in float_graph if n.startswith(site)}


def test_plan_applied_is_what_the_quantiser_gives() -> None:
    from edgevit.quantize.plan import apply_plan
    from tests.support.small_graphs import make_graph, make_pixels, run_graph

    graph, images = make_graph("vit"), make_pixels("vit", 3)
    whole, record = quantize_fp8(graph, images, "tensorrt_rtx", {}, sqnr_db=60, float_share=0.3)
    _, plan, same = plan_fp8(graph, images, "tensorrt_rtx", {}, sqnr_db=60, float_share=0.3)
    assert dataclasses.replace(same, seconds=record.seconds) == record
    assert set(record.fallback) < set(plan.sites), "what stays float for its noise can be taken back"
    taken = [s.name for s in record.sites if s.precision == "fp8"]
    (wanted,) = run_graph(whole, images)
    (found,) = run_graph(apply_plan(graph, plan, taken), images)
    assert (wanted == found).all()
