"""INT8 that loses accuracy, in the build as a whole: on the demonstration ViT with planted outlier channels."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest

import edgevit.build.set_back
from edgevit.build.build import build_model
from edgevit.build.set_back import REASON, STAGE
from edgevit.cli.demo_models import MODELS
from edgevit.core.quantization import Quantization
from edgevit.core.recipe import Recipe, load_recipe
from edgevit.core.report.report import Report
from edgevit.core.target import Budget, load_target
from edgevit.runtime.bundle import verify_bundle
from tests.support.digits import write_few
from tests.support.outliers import plant_outliers

# What the quantiser itself does against outliers is off, so that the budget is missed whatever it learns to do.
PLAIN = Quantization(images=40, rounding="nearest", bias_correction=False, float_share=0.0)
QUICK = Recipe(latency_runs=2, latency_seconds=0.05, tune_settings=False, quantization=PLAIN)
INT8 = dataclasses.replace(QUICK, precision="int8")
CPU = load_target("cpu")
EXACT = Budget(max_drop_points=0.0)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The checkpoint, and images as files; a hundred of the held-out ones."""
    folder = tmp_path_factory.mktemp("planted")
    files = write_few(folder)
    return plant_outliers(MODELS["vit"], folder / "model", blocks=(0, 3), channels=2, factor=1e4), files


def build(planted, out, recipe=INT8, budget=EXACT, progress=lambda *step: None):
    model, files = planted
    return build_model(
        model,
        CPU,
        out=out,
        recipe=recipe,
        budget=budget,
        calibration=files.calibration,
        validation=files.validation,
        progress=progress,
    )


@pytest.fixture(scope="module")
def built(planted, tmp_path_factory):
    return build(planted, tmp_path_factory.mktemp("built") / "bundle")


def test_budget_is_met_with_few_sites_in_float(built):
    record = built.report.quantization["int8"]
    result = record.set_back
    assert result.before > 5, "or nothing was planted"
    assert result.after <= 0
    assert 1 <= len(result.sites) <= result.quantized / 3
    assert any(site.endswith("mlp.fc2") for site in result.sites), "where the outliers are"
    assert record.fallback == result.sites
    found = {s.name: (s.precision, s.reason) for s in record.sites}
    assert all(found[name] == ("float", REASON) for name in result.sites)
    assert sum(precision == "int8" for precision, _ in found.values()) == result.quantized - len(result.sites)


def test_engine_that_is_packed_judged_and_timed_is_the_one_with_sites_in_float(built):
    (variant,) = built.report.variants
    assert variant.choice_accuracy.drop_points == built.report.quantization["int8"].set_back.after
    assert variant.latency is not None
    engine = verify_bundle(built.bundle).manifest.engine
    assert sum((built.bundle / name).stat().st_size for name in engine.files) == variant.size_bytes
    graph = onnx.load(built.bundle / "model.onnx").graph
    codes = {i.name for i in graph.initializer if i.data_type == onnx.TensorProto.INT8 and len(i.dims) == 2}
    quantized = {name.removesuffix(".weight.codes") for name in codes}
    linears = {s.name for s in built.report.quantization["int8"].sites if not s.name.endswith(("/scores", "/context"))}
    floats = {s.name for s in built.report.quantization["int8"].sites if s.precision == "float"}
    assert quantized == linears - floats
    assert Report.load(built.bundle / "report.json") == built.report


def test_equal_build_searches_once(built, planted, tmp_path):
    stages = set()
    again = build(planted, tmp_path / "b", progress=lambda stage, done, total: stages.add(stage))
    assert STAGE not in stages
    assert again.report.quantization["int8"] == built.report.quantization["int8"]
    assert again.report.op_counts == built.report.op_counts


def test_bundle_s_recipe_keeps_the_sites_float_under_any_budget(built, planted, tmp_path):
    recipe = load_recipe(built.bundle / "recipe.toml")
    sites = built.report.quantization["int8"].set_back.sites
    assert recipe.quantization.sites == dict.fromkeys(sites, "float")
    stages = set()
    again = build(planted, tmp_path / "b", recipe, Budget(100), lambda stage, done, total: stages.add(stage))
    assert STAGE not in stages
    found = {s.name: s.precision for s in again.report.quantization["int8"].sites}
    assert found == {s.name: s.precision for s in built.report.quantization["int8"].sites}
    assert np.isclose(again.report.variants[0].size_bytes, built.report.variants[0].size_bytes, rtol=0.01)


def test_budget_that_is_met_sets_nothing_back_and_measures_once(planted, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "cache"))  # which knows no accuracy of earlier runs
    stages: list[str] = []
    result = build(
        planted, tmp_path / "b", budget=Budget(100), progress=lambda stage, done, total: stages.append(stage)
    )
    assert result.report.quantization["int8"].set_back is None
    assert result.report.quantization["int8"].fallback == ()
    assert stages.count("calibration int8") == 1 + 200, "as often as there are images"
    stages.clear()
    again = build(
        planted, tmp_path / "again", budget=Budget(100), progress=lambda stage, done, total: stages.append(stage)
    )
    assert "calibration int8" not in stages, "the same engine answers the same images as before"
    figures = [[(v.accuracy, v.choice_accuracy) for v in r.report.variants] for r in (result, again)]
    assert figures[0] == figures[1]


def test_budget_that_a_third_of_the_sites_does_not_meet_keeps_float_and_says_why(planted, tmp_path, monkeypatch):
    monkeypatch.setattr(edgevit.build.set_back, "LARGEST_SHARE", 0.01)
    result = build(planted, tmp_path / "b", recipe=QUICK, budget=Budget(0.1))  # another budget, as results are cached
    assert result.manifest.precision in ("fp32", "fp16")
    assert result.report.verdict.passed
    record = result.report.quantization["int8"]
    assert (record.set_back.sites, record.set_back.tried, record.fallback) == ((), 1, ())
    variant = next(v for v in result.report.variants if v.name == "int8")
    assert variant.status == "ACCURACY DROP"
    assert variant.reason.startswith("top-1 drops by")
    assert "setting back 1 of" in variant.reason
    assert "none is set back" in variant.reason


def test_sites_that_the_recipe_pins_are_not_set_back(planted, built, tmp_path):
    worst = built.report.quantization["int8"].set_back.sites[0]
    pinned = dataclasses.replace(INT8, quantization=dataclasses.replace(PLAIN, sites={worst: "int8"}))
    record = build(planted, tmp_path / "b", recipe=pinned).report.quantization["int8"]
    assert record.set_back is not None
    assert worst not in record.set_back.sites
    assert {s.name: s.precision for s in record.sites}[worst] == "int8"
