"""INT8 in the build as a whole, on the demonstration ViT: what is tried, said, packed and refused."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest

from edgevit.build.build import build_model
from edgevit.cli.demo_models import MODELS
from edgevit.core.errors import CalibrationError, RecipeError
from edgevit.core.quantization import Quantization
from edgevit.core.recipe import Recipe, load_recipe
from edgevit.core.report.report import Report
from edgevit.core.target import load_target
from edgevit.pixels.images import ImageSet
from edgevit.runtime import open_bundle
from edgevit.runtime.bundle import verify_bundle
from tests.support.digits import write_few
from tests.support.stage_names import StageNames

QUICK = Recipe(
    latency_runs=2, latency_seconds=0.05, tune_settings=False, choice_images=40, quantization=Quantization(images=40)
)
INT8 = dataclasses.replace(QUICK, precision="int8")
FAST = Quantization(float_share=0.0, rounding="nearest")
"""Calibrates in a fraction of the time, where a test looks at something else than the codes."""
CPU = load_target("cpu")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The demonstration's images as files; a hundred of the held-out ones."""
    return write_few(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def built(tmp_path_factory, digits):
    notes: list[str] = []
    stages = StageNames()
    result = build_model(
        MODELS["vit"],
        CPU,
        out=tmp_path_factory.mktemp("built") / "bundle",
        recipe=INT8,
        calibration=digits.calibration,
        validation=digits.validation,
        progress=stages,
        note=notes.append,
    )
    assert stages.twice == []
    assert stages.parts == [(done, 7) for done in range(1, 8)]
    return result, notes


def test_auto_with_calibration_images_tries_int8_beside_the_float_ones(tmp_path, digits):
    result = build_model(MODELS["vit"], CPU, out=tmp_path / "b", recipe=QUICK, calibration=digits.calibration)
    variants = {v.name: v for v in result.report.variants}
    assert list(variants) == ["fp32", "fp16", "int8"]
    assert variants["int8"].parity.passed, "the engine computes what its graph does"
    assert variants["int8"].choice_accuracy.images == 40
    assert variants["int8"].ratio is not None
    assert variants["int8"].size_bytes < variants["fp16"].size_bytes
    assert result.report.quantization["int8"].images == 40
    assert result.report.stages["quantize int8"] > 0


def test_int8_bundle_is_whole_and_its_recipe_builds_it_again(built, digits, tmp_path):
    result, _ = built
    assert verify_bundle(result.bundle).manifest.precision == "int8"
    assert Report.load(result.bundle / "report.json") == result.report
    recipe = load_recipe(result.bundle / "recipe.toml")
    assert (recipe.precision, recipe.quantization) == ("int8", INT8.quantization)
    again = build_model(MODELS["vit"], CPU, out=tmp_path / "b", recipe=recipe, calibration=digits.calibration)
    assert (again.bundle / "model.onnx").read_bytes() == (result.bundle / "model.onnx").read_bytes()


@pytest.mark.parametrize("target", [pytest.param("cpu", marks=pytest.mark.slow), "intel-cpu"])
def test_weights_alone_make_a_small_bundle_that_answers_as_the_float_model(tmp_path, digits, target):
    recipe = dataclasses.replace(
        load_recipe("weights_only"), latency_runs=2, latency_seconds=0.05, tune_settings=False, choice_images=40
    )
    built = {
        precision: build_model(
            MODELS["vit"],
            load_target(target),
            out=tmp_path / precision,
            recipe=dataclasses.replace(recipe, precision=precision),
            calibration=digits.calibration,
            validation=digits.validation,
        )
        for precision in ("fp32", "int8")
    }
    quantized, plain = (built[p].report.variants[0] for p in ("int8", "fp32"))
    assert quantized.size_bytes < 0.55 * plain.size_bytes  # a quarter, and the graph, which is much of so small a model
    assert quantized.accuracy.agreement >= 99
    assert quantized.accuracy.sqnr_db > 30


def test_int8_bundle_reads_digits_that_it_never_saw(built, digits):
    result, _ = built
    accuracy = result.report.variants[0].accuracy
    assert accuracy.agreement >= 98
    assert result.report.verdict.passed
    images = ImageSet.read(digits.validation).subset(20, 0)
    with open_bundle(result.bundle) as app:
        answers = [app.classify(images.root / file, top_k=1)[0].index for file in images.files]
    right = sum(answer == label for answer, label in zip(answers, images.labels, strict=True))
    assert right >= 19


def test_report_of_an_int8_bundle_describes_the_graph_that_is_in_it(built):
    result, _ = built
    assert result.report.op_counts["QuantizeLinear"] > 0
    assert next(r for r in result.report.passes if r.name == "residual_rotation").applied == ("blocks",)
    assert result.report.quantization["int8"].worst[0].sqnr_db <= result.report.quantization["int8"].worst[-1].sqnr_db
    assert result.manifest.figures["calibration"] == "calibrated on 40 images"


def test_note_says_which_sample_was_drawn(built):
    _, notes = built
    assert "calibration: 40 of 200 images, 4 of each class, seed 0" in notes


def test_sample_for_int8_is_drawn_from_all_images_not_from_those_of_the_choice(tmp_path, digits):
    recipe = dataclasses.replace(INT8, choice_images=15, quantization=dataclasses.replace(FAST, images=33))
    notes: list[str] = []
    result = build_model(
        MODELS["vit"], CPU, out=tmp_path / "b", recipe=recipe, calibration=digits.calibration, note=notes.append
    )
    assert result.report.quantization["int8"].images == 33
    assert result.report.data["calibration"].images == 15
    assert "calibration: 33 of 200 images, 3 or 4 of each class, seed 0" in notes


def test_auto_without_calibration_images_says_that_int8_was_not_tried(tmp_path):
    result = build_model(MODELS["vit"], CPU, out=tmp_path / "b", recipe=QUICK)
    assert [v.name for v in result.report.variants] == ["fp32", "fp16"]
    assert any("int8 was not tried" in w and "--calibration DATA" in w for w in result.report.verdict.warnings)
    assert not result.report.quantization


def test_int8_without_calibration_images_is_refused_before_the_checkpoint_is_read(tmp_path):
    with pytest.raises(CalibrationError) as caught:
        build_model(tmp_path / "none", CPU, out=tmp_path / "b", recipe=INT8)
    assert "--calibration random" in caught.value.hint


def test_random_pixels_give_a_bundle_that_is_marked_everywhere_and_has_not_passed(tmp_path):
    mark = "random pixels: for latency trials, not for use"
    recipe = dataclasses.replace(INT8, quantization=FAST)
    result = build_model(MODELS["vit"], CPU, out=tmp_path / "b", recipe=recipe, calibration="random")
    assert not result.report.verdict.passed
    assert mark in result.report.verdict.sentence
    assert any(mark in w for w in result.report.verdict.warnings)
    figures = verify_bundle(result.bundle).manifest.figures
    assert figures["passed"] is False
    assert mark in figures["verdict"]
    assert mark in figures["calibration"]
    assert result.report.quantization["int8"].random
    assert "calibration" not in result.report.data
    assert result.report.variants[0].latency is not None


def test_few_calibration_images_are_a_warning(tmp_path, digits):
    recipe = dataclasses.replace(INT8, quantization=dataclasses.replace(FAST, images=10))
    result = build_model(MODELS["vit"], CPU, out=tmp_path / "b", recipe=recipe, calibration=digits.calibration)
    assert any("10 images, fewer than 32" in w for w in result.report.verdict.warnings)


def test_site_that_is_pinned_to_float_stays_float_and_an_unknown_one_is_refused(tmp_path, digits):
    pinned = dataclasses.replace(FAST, images=32, sites={"blocks.*.mlp.fc2": "float", "blocks.1.mlp.fc2": "int8"})
    recipe = dataclasses.replace(INT8, quantization=pinned)
    result = build_model(MODELS["vit"], CPU, out=tmp_path / "b", recipe=recipe, calibration=digits.calibration)
    found = {s.name: s.precision for s in result.report.quantization["int8"].sites if s.name.endswith("mlp.fc2")}
    assert found == {f"blocks.{i}.mlp.fc2": "int8" if i == 1 else "float" for i in range(len(found))}
    unknown = dataclasses.replace(INT8, quantization=Quantization(images=32, sites={"layers.*": "float"}))
    with pytest.raises(RecipeError, match=r"layers\.\*"):
        build_model(MODELS["vit"], CPU, out=tmp_path / "c", recipe=unknown, calibration=digits.calibration)


def test_pin_of_no_site_is_refused_before_the_float_model_runs_over_the_images(tmp_path, digits, monkeypatch):
    ran = []
    monkeypatch.setattr("edgevit.build.begin.gather_evidence", lambda *given: ran.append(given))
    pins: dict[str, Any] = {"blocks.0.attn.qkv": "float", "blocks.*.mlp.fc2": "float", "fc9": "int8"}
    recipe = dataclasses.replace(QUICK, quantization=Quantization(images=40, sites=pins))
    with pytest.raises(RecipeError) as caught:
        build_model(MODELS["vit"], CPU, out=tmp_path / "b", recipe=recipe, calibration=digits.calibration)
    assert caught.value.message == "no site is called blocks.0.attn.qkv, fc9"
    assert "blocks.*.attn.q, blocks.*.attn.k, blocks.*.attn.v" in caught.value.hint
    assert not ran


def test_four_bit_weights_that_the_library_does_not_run_are_refused_before_the_checkpoint_is_read(tmp_path, digits):
    recipe = dataclasses.replace(QUICK, quantization=Quantization(activations="float", weight_bits=4))
    with pytest.raises(RecipeError, match="weight_bits = 4 is not for onnxruntime"):
        build_model(tmp_path / "none", CPU, out=tmp_path / "b", recipe=recipe, calibration=digits.calibration)


def test_build_with_the_same_calibration_does_not_calibrate_again_and_says_so(tmp_path, digits):
    """In the cache of all tests, where the float graphs are, with a seed that no earlier run had."""
    stages: set[str] = set()
    notes: list[str] = []
    recipe = dataclasses.replace(INT8, seed=int.from_bytes(os.urandom(3), "big"))

    def build(**changes):
        build_model(
            MODELS["vit"],
            CPU,
            out=tmp_path / "b",
            recipe=dataclasses.replace(recipe, **{"quantization": dataclasses.replace(FAST, images=11), **changes}),
            calibration=digits.calibration,
            progress=lambda stage, done, total: stages.add(stage),
            note=notes.append,
        )
        return [text for text in notes if text.startswith("int8: calibrated by an earlier build")]

    assert build() == []
    assert "quantize for int8" in stages
    stages.clear()
    assert len(build(latency_runs=3)) == 1
    assert "quantize for int8" not in stages
    assert len(build(quantization=dataclasses.replace(FAST, images=10))) == 1, "of the build before"
    assert "quantize for int8" in stages


def test_openvino_gets_an_int8_engine_too(tmp_path, digits):
    pytest.importorskip("openvino")
    result = build_model(
        MODELS["swin"],
        load_target("intel-cpu"),
        out=tmp_path / "b",
        recipe=INT8,
        calibration=digits.calibration,
        validation=digits.validation,
    )
    assert result.manifest.engine.precision == "int8"
    assert result.report.variants[0].accuracy.agreement >= 97
    assert "FakeQuantize" in (result.bundle / "model.xml").read_text(encoding="utf-8")
