"""Embeddings and features through the whole line, on the demonstration's models: float, INT8, bundle and runtime."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from click.testing import CliRunner

from edgevit.build.build import build_model
from edgevit.checkpoints import read_checkpoint
from edgevit.cli import main
from edgevit.cli.demo_models import MODELS
from edgevit.core.errors import BundleError
from edgevit.core.quantization import Quantization
from edgevit.core.recipe import Recipe, load_recipe
from edgevit.core.target import load_target
from edgevit.core.task import Task
from edgevit.measure.evaluate import evaluate_bundle
from edgevit.measure.reference import run_outputs
from edgevit.models.select_task import select_task
from edgevit.runtime import open_bundle
from tests.support.digits import write_few

CPU = dataclasses.replace(load_target("cpu"), precisions=("fp32", "int8"))
QUICK = Recipe(
    latency_runs=2, latency_seconds=0.05, tune_settings=False, choice_images=40, quantization=Quantization(images=40)
)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return write_few(tmp_path_factory.mktemp("digits"), 5)


@pytest.fixture(scope="module", params=["vit_embed", "swin_features"])
def built(request, tmp_path_factory, digits):
    name, _, kind = request.param.partition("_")
    task = Task("embed", normalize=True) if kind == "embed" else Task("features")
    recipe = dataclasses.replace(QUICK, task=task, precision="int8")
    out = tmp_path_factory.mktemp(request.param) / "bundle"
    result = build_model(
        MODELS[name], CPU, out=out, recipe=recipe, calibration=digits.calibration, validation=digits.validation
    )
    return name, task, result, digits


def test_int8_bundle_answers_nearly_as_the_module_and_refuses_other_tasks(built) -> None:
    name, task, result, digits = built
    image = next(digits.validation.glob("3/*.png"))
    model = select_task(read_checkpoint(MODELS[name]), task)
    assert result.report.verdict.passed
    with open_bundle(result.bundle) as opened:
        assert opened.manifest.read_task() == model.task
        expected = run_outputs(model)(opened.preprocess.apply(image)[None])
        if task.name == "embed":
            vector = opened.embed(image)
            assert np.linalg.norm(vector) == pytest.approx(1, abs=0.02)
            assert float(vector @ expected[0][0]) > 0.99
        else:
            found = opened.features(image)
            assert list(found) == [spec.name for spec in model.outputs]
            for ours, theirs in zip(found.values(), expected, strict=True):
                noise = np.square(ours - theirs[0]).sum() / np.square(theirs).sum()
                assert 0 < noise < 0.01
        with pytest.raises(BundleError, match=f"for the task {task.name}, not classify"):
            opened.classify(image)


def test_recipe_of_the_bundle_holds_the_task_as_it_was_decided(built) -> None:
    name, task, result, _ = built
    decided = load_recipe(result.bundle / "recipe.toml").task
    assert decided == select_task(read_checkpoint(MODELS[name]), task).task


def test_what_restores_rotated_features_stays_float_and_says_why(built) -> None:
    _, task, result, _ = built
    sites = {site.name: site for site in result.report.quantization["int8"].sites if site.name.endswith(".restore")}
    assert list(sites) == (["outlets.1.restore"] if task.name == "features" else [])
    assert all(site.precision == "float" and "save next to no time" in site.reason for site in sites.values())


def test_figures_are_those_of_the_task_and_eval_measures_them_again(built) -> None:
    name, task, result, digits = built
    figures = next(v for v in result.report.variants if v.name == "int8").accuracy
    assert figures.task == task.name
    again = evaluate_bundle(result.bundle, digits.validation, reference=MODELS[name])
    if task.name == "embed":
        assert figures.labelled
        assert figures.cosine_mean > 0.99
        assert again.accuracy.cosine_mean == pytest.approx(figures.cosine_mean, abs=1e-4)
        assert again.accuracy.agreement == figures.agreement
    else:
        assert min(figures.level_sqnr_db.values()) > 20
        assert again.accuracy.level_sqnr_db == pytest.approx(figures.level_sqnr_db, abs=0.1)


def test_run_saves_what_the_bundle_gives(built, tmp_path) -> None:
    _, task, result, digits = built
    images = sorted(digits.validation.glob("7/*.png"))[:2]
    path = tmp_path / ("found.npy" if task.name == "embed" else "found.npz")
    done = CliRunner().invoke(main, ["run", str(result.bundle), *map(str, images), "--save", str(path)])
    assert done.exit_code == 0, done.output
    stored = np.load(path)
    with open_bundle(result.bundle) as opened:
        for row, image in enumerate(images):
            if task.name == "embed":
                np.testing.assert_allclose(stored[row], opened.embed(image), atol=1e-6)
            else:
                for name, values in opened.features(image).items():
                    np.testing.assert_allclose(stored[name][row], values, atol=1e-5)
    refused = CliRunner().invoke(main, ["run", str(result.bundle), str(images[0]), "--save", str(tmp_path / "x.txt")])
    assert refused.exit_code == 2
