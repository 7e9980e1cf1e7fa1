"""The line as a whole on the demonstration models: what a build leaves, also when it is broken off."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgevit.build.build import build_model
from edgevit.build.evidence import Evidence
from edgevit.build.finish import finish_bundle
from edgevit.cli.demo_models import MODELS
from edgevit.core.cache import StageCache
from edgevit.core.errors import CheckpointError, CompileError, DataError, OutputError
from edgevit.core.recipe import Recipe, load_recipe
from edgevit.core.report.report import Ratio, Report, SettingsTrial
from edgevit.core.target import Budget, load_target
from edgevit.core.task import Task
from edgevit.measure.reference import generate_images, run_module, save_reference
from edgevit.runtime import open_bundle
from edgevit.runtime.bundle import verify_bundle
from tests.support.digits import write_few
from tests.support.small_checkpoints import small_tensors, write_folder
from tests.support.small_models import VIT, make_model

QUICK = Recipe(latency_runs=2, latency_seconds=0.05, tune_settings=False, choice_images=40)
# INT8 has tests of its own, test_build_int8.py.
CPU = dataclasses.replace(load_target("cpu"), precisions=("fp32", "fp16"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The demonstration's images as files; a hundred of the held-out ones."""
    return write_few(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def built(tmp_path_factory, digits):
    out = tmp_path_factory.mktemp("built") / "bundle"
    return build_model(
        MODELS["vit"], CPU, out=out, recipe=QUICK, calibration=digits.calibration, validation=digits.validation
    )


def test_build_report_states_source_data_machine_and_figures(built):
    report = built.report
    assert report.data["calibration"].images == 40
    assert report.data["validation"].images == 100
    assert report.machine.cpu
    assert report.machine.packages["onnxruntime"]
    assert {r.name for r in report.passes} >= {"attention_scale", "last_block", "fold_constants", "name_sites"}
    assert report.source["layout"] == "timm hub folder"
    fp32 = next(v for v in report.variants if v.name == "fp32")
    assert fp32.parity.passed
    assert fp32.accuracy.agreement == 100
    assert fp32.accuracy.drop_points == 0
    assert fp32.cold_start is not None or built.manifest.precision != "fp32"


def test_build_bundle_is_whole_and_holds_recipe_and_report(built):
    bundle = verify_bundle(built.bundle)
    assert Report.load(built.bundle / "report.json") == built.report
    recipe = load_recipe(built.bundle / "recipe.toml")
    assert recipe.export == CPU.export
    assert {"manifest.json", "recipe.toml", "report.json", "canary.npz", *bundle.manifest.engine.files} == {
        p.name for p in built.bundle.iterdir()
    }


def test_bundle_answers_as_the_module(built, digits):
    from edgevit.checkpoints import read_checkpoint

    model = read_checkpoint(MODELS["vit"])
    images = sorted(digits.validation.glob("*/*.png"))[::9]
    with open_bundle(built.bundle) as app:
        for path in images:
            expected = run_module(model)(model.preprocess.apply(path)[None])[0]
            first = app.classify(path, top_k=1)[0]
            shares = np.exp(expected - expected.max())
            assert first.index == int(expected.argmax())
            assert first.label == model.labels[first.index]
            # the bundle may hold fp16 weights
            assert first.probability == pytest.approx(shares.max() / shares.sum(), abs=5e-3)


def test_build_without_images_is_parity_only_and_says_so(tmp_path):
    result = build_model(MODELS["vit"], CPU, out=tmp_path / "bundle", recipe=QUICK)
    assert result.report.data == {}
    assert any("generated images" in w for w in result.report.verdict.warnings)
    assert "parity only" in " ".join((result.report.verdict.sentence, *result.report.verdict.warnings))


def test_build_opens_engines_in_the_way_that_tuning_chose_and_the_bundle_keeps_it(tmp_path, monkeypatch):
    slower, faster = (
        SettingsTrial({"threads": 2}, Ratio(1.2, 1.1, 1.3, 20), library="onnxruntime"),
        SettingsTrial({"threads": 1}, Ratio(0.8, 0.7, 0.9, 20), chosen=True, library="onnxruntime"),
    )
    monkeypatch.setattr("edgevit.build.try_engines.tune_settings", lambda *args, **kwargs: (slower, faster))
    recipe = dataclasses.replace(QUICK, tune_settings=True)
    result = build_model(MODELS["vit"], CPU, out=tmp_path / "bundle", recipe=recipe)
    assert {v.name: v.latency.settings["threads"] for v in result.report.variants} == {"fp32": 1, "fp16": 1}
    assert Report.load(result.bundle / "report.json").settings_tried == (slower, faster)
    assert verify_bundle(result.bundle).manifest.engine.settings["threads"] == 1
    assert load_recipe(result.bundle / "recipe.toml").settings["threads"] == 1
    with open_bundle(result.bundle) as app:
        assert app.settings["threads"] == 1


def test_build_with_a_dynamic_batch_takes_every_size(tmp_path, digits):
    recipe = dataclasses.replace(QUICK, batch=(1, 2, 4), precision="fp32")
    for name in MODELS:
        result = build_model(MODELS[name], CPU, out=tmp_path / name, recipe=recipe, validation=digits.validation)
        with open_bundle(result.bundle) as app:
            pixels = generate_images(4, 32, 32, 0)
            whole = app.run(pixels)
            assert np.abs(app.run(pixels[:1]) - whole[:1]).max() <= 1e-4 * np.abs(whole).max()


def test_build_at_another_image_size_differs_and_agrees_with_the_module(tmp_path, digits):
    recipe = dataclasses.replace(QUICK, image_size=(48, 40), precision="fp32")
    result = build_model(MODELS["vit"], CPU, out=tmp_path / "bundle", recipe=recipe, validation=digits.validation)
    assert result.manifest.inputs[0].shape == (1, 48, 40, 3)
    assert result.report.variants[0].accuracy.agreement == 100


def test_rebuilding_takes_finished_stages_from_the_cache(tmp_path, monkeypatch):
    cache = StageCache(tmp_path / "cache")
    build_model(MODELS["vit"], CPU, out=tmp_path / "one", recipe=QUICK, cache=cache)
    monkeypatch.setattr("edgevit.models.export.export_model", lambda *a, **k: pytest.fail("exported again"))
    monkeypatch.setattr("edgevit.build.trial.compile_engine", lambda *a, **k: pytest.fail("compiled again"))
    again = build_model(MODELS["vit"], CPU, out=tmp_path / "two", recipe=QUICK, cache=cache)
    assert verify_bundle(again.bundle)


def test_classes_in_another_order_than_their_names_stop_a_build_unless_chance_is_accepted(tmp_path, digits):
    for number in range(10):
        (tmp_path / "data" / "zyxwvutsrq"[number]).mkdir(parents=True)
        for path in sorted((digits.validation / str(number)).glob("*.png"))[:2]:
            (tmp_path / "data" / "zyxwvutsrq"[number] / path.name).write_bytes(path.read_bytes())
    given: dict[str, Any] = {"out": tmp_path / "b", "recipe": QUICK, "validation": tmp_path / "data"}
    with pytest.raises(DataError, match="no better than chance") as caught:
        build_model(MODELS["vit"], CPU, **given)
    assert "sorted order of their names (0 = q, 1 = r, 2 = s, …)" in caught.value.message
    report = build_model(MODELS["vit"], CPU, **given, accept_chance=True).report
    assert "sorted order of their names (0 = q" in report.data["validation"].matching
    assert caught.value.message in report.verdict.warnings


def test_failed_build_leaves_the_earlier_bundle(tmp_path, built, digits):
    out = tmp_path / "bundle"
    build_model(MODELS["vit"], CPU, out=out, recipe=QUICK)
    before = (out / "manifest.json").read_bytes()
    bad = tmp_path / "bad.csv"
    bad.write_text("file,label\nnot-there.png,0\nnor-this.png,1\n")
    with pytest.raises(DataError) as caught:
        build_model(MODELS["vit"], CPU, out=out, recipe=QUICK, validation=bad)
    assert "not-there.png" in caught.value.message
    assert "nor-this.png" in caught.value.message
    assert (out / "manifest.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if "edgevit" in p.name] == []


def test_images_in_both_sets_are_refused(tmp_path, digits):
    with pytest.raises(DataError, match="calibration and validation are the same 100 images"):
        build_model(
            MODELS["vit"],
            CPU,
            out=tmp_path / "bundle",
            recipe=dataclasses.replace(QUICK, choice_images=5000),
            calibration=digits.validation,
            validation=digits.validation,
        )


def test_bad_images_are_skipped_and_counted_on_request(tmp_path, digits):
    folder = tmp_path / "data"
    for label in (0, 1):
        (folder / str(label)).mkdir(parents=True)
        for path in sorted((digits.validation / str(label)).glob("*.png"))[:3]:
            (folder / str(label) / path.name).write_bytes(path.read_bytes())
    (folder / "1" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(DataError, match=r"broken\.png"):
        build_model(MODELS["vit"], CPU, out=tmp_path / "bundle", recipe=QUICK, validation=folder)
    notes: list[str] = []
    result = build_model(
        MODELS["vit"],
        CPU,
        out=tmp_path / "bundle",
        recipe=QUICK,
        validation=folder,
        skip_bad_images=True,
        note=notes.append,
    )
    assert result.report.data["validation"].images == 6
    assert result.report.data["validation"].skipped_images == 1
    assert any("1 image cannot be used" in n for n in notes)


def test_engine_that_answers_wrongly_gives_no_bundle(tmp_path, monkeypatch, digits):
    """The parity check is what stands between a miscompiled model and the device."""
    gather = Evidence.__init__

    def shifted(self, *args, **kwargs):
        kwargs["outputs"] = tuple(np.roll(values, 1, axis=1) for values in kwargs["outputs"])
        gather(self, *args, **kwargs)

    monkeypatch.setattr(Evidence, "__init__", shifted)
    out = tmp_path / "bundle"
    result = build_model(MODELS["vit"], CPU, out=out, recipe=QUICK, validation=digits.validation)
    assert result.bundle is None
    assert not result.report.verdict.passed
    assert {v.status for v in result.report.variants} == {"PARITY FAILED"}
    assert not out.exists()
    assert Report.load(tmp_path / "bundle.report.json") == result.report


def test_latency_budget_that_nothing_meets_leaves_a_bundle_that_has_not_passed(tmp_path):
    result = build_model(MODELS["vit"], CPU, out=tmp_path / "bundle", recipe=QUICK, budget=Budget(max_latency_ms=1e-6))
    assert not result.report.verdict.passed
    assert verify_bundle(result.bundle).manifest.figures["passed"] is False


def test_model_without_classes_is_no_classifier_before_anything_is_built(tmp_path):
    tensors = {name: value for name, value in small_tensors().items() if not name.startswith("head")}
    source = write_folder(tmp_path / "features", tensors, num_classes=0)
    with pytest.raises(CheckpointError, match="has no classification head"):
        build_model(source, load_target("intel-cpu"), out=tmp_path / "bundle", recipe=Recipe(task=Task("classify")))
    assert not (tmp_path / "bundle").exists()


def test_precision_that_the_target_lacks_is_refused_before_the_checkpoint_is_read(tmp_path):
    target = dataclasses.replace(CPU, precisions=("fp32",))
    with pytest.raises(CompileError, match="does not support fp16"):
        build_model(tmp_path / "none", target, out=tmp_path / "b", recipe=dataclasses.replace(QUICK, precision="fp16"))


def test_second_build_into_the_same_folder_is_refused_while_the_first_runs(tmp_path):
    attempts: list[Exception] = []

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "export" and not attempts:
            try:
                build_model(MODELS["swin"], CPU, out=tmp_path / "bundle", recipe=QUICK)
            except OutputError as exc:
                attempts.append(exc)

    result = build_model(MODELS["vit"], CPU, out=tmp_path / "bundle", recipe=QUICK, progress=progress)
    assert f"process {os.getpid()}" in str(attempts[0])
    assert verify_bundle(result.bundle).manifest.name.startswith("vit")


def test_infinite_logits_of_the_model_itself_name_the_images(tmp_path, digits):
    model = make_model(VIT)
    head: Any = model.module.head
    head.bias.data[0] = float("inf")
    from edgevit.pixels.images import ImageSet

    images = ImageSet.read(digits.validation).subset(3, 0)
    with pytest.raises(CheckpointError, match="not finite for 3 images") as caught:
        save_reference(model, images, tmp_path)
    assert images.files[0] in caught.value.message


def test_reference_is_the_module_batch_by_batch(tmp_path, digits):
    from edgevit.pixels.images import ImageSet

    model = make_model(VIT)
    images = ImageSet.read(digits.validation).subset(11, 0)
    save_reference(model, images, tmp_path)
    stored = np.load(tmp_path / "logits.npy")
    run = run_module(model)
    for row, file in zip(stored, images.files, strict=True):
        alone = run(model.preprocess.apply(images.root / file)[None])[0]
        assert np.abs(row - alone).max() <= 1e-5 * np.abs(alone).max()


def test_build_for_tensorrt_marks_what_float16_does_not_hold(tmp_path, digits):
    import onnx

    from tests.support.outliers import plant_outliers

    planted = plant_outliers(MODELS["vit"], tmp_path / "planted", [0], factor=1e6)
    result = build_model(
        planted,
        load_target("jetson"),
        out=tmp_path / "bundle",
        recipe=QUICK,
        validation=digits.validation,
        cache=StageCache(tmp_path / "cache"),
    )
    record = next(r for r in result.report.passes if r.name == "float16_range")
    assert {"blocks.0.mlp.fc1", "blocks.0.mlp.fc2"} <= set(record.applied)
    assert not any(name.startswith("blocks.1") for name in record.applied)
    nodes = onnx.load(tmp_path / "bundle" / "model.onnx").graph.node
    marked = {node.name for node in nodes if any(p.key == "edgevit.arithmetic" for p in node.metadata_props)}
    assert marked == set(record.applied), "the device that compiles the file sees the marks"
    assert result.report.variants[0].accuracy.agreement == 100
    fusion = result.report.fusion.get("fp16")  # absent where TensorRT-RTX is not installed
    assert fusion is None or "fp32" in fusion.products


def test_portable_bundle_is_finished_on_its_device(tmp_path, digits):
    elsewhere = dataclasses.replace(load_target("raspberry-pi-5"), architecture=None, build_on="device")
    if load_target("raspberry-pi-5").architecture == os.uname().machine:
        pytest.skip("this machine could be the device")
    portable = build_model(
        MODELS["swin"],
        load_target("raspberry-pi-5"),
        out=tmp_path / "bundle",
        recipe=QUICK,
        validation=digits.validation,
    )
    assert portable.manifest.portable
    assert portable.report.variants[0].latency is None
    assert portable.report.variants[0].accuracy.agreement == 100
    here = dataclasses.replace(portable.manifest, target=dataclasses.replace(elsewhere, build_on="host"))
    from edgevit.build.pack import pack_bundle

    files = {name: (portable.bundle / name).read_bytes() for name in portable.manifest.files}
    pack_bundle(tmp_path / "bundle", files=files, manifest=here)
    finished = finish_bundle(tmp_path / "bundle")
    assert not finished.manifest.portable
    assert all(v.parity.passed for v in finished.report.variants)
    assert finished.report.variants[0].latency is not None
    assert "at the build, the graph of fp32 and fp16 in ONNX Runtime had top-1" in finished.report.notes[-1]
    image = next(iter(sorted(digits.validation.glob("*/*.png"))))
    with open_bundle(finished.bundle) as app:
        assert app.classify(Image.open(image), top_k=3)[0].label in map(str, range(10))


SCRIPT = """
import signal, sys
from pathlib import Path
from edgevit.build.build import build_model
from edgevit.cli.demo_models import MODELS
from edgevit.core.recipe import Recipe
from edgevit.core.target import load_target

def progress(stage, done, total):
    print(stage, done, total, flush=True)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite that runs in the background has it ignored
recipe = Recipe(precision="fp32", latency_seconds=60, tune_settings=False)
build_model(MODELS["vit"], load_target("cpu"), out=Path(sys.argv[1]), recipe=recipe, progress=progress)
"""


@pytest.mark.parametrize("kill", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL])
def test_build_that_is_killed_leaves_no_half_bundle_and_goes_on_later(tmp_path, kill):
    out = tmp_path / "out" / "bundle"
    environment = {**os.environ, "EDGEVIT_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(out)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("latency"):  # the engine is compiled; the bundle is not written
                break
        process.send_signal(kill)
        process.wait(timeout=60)
    assert process.returncode != 0
    assert not out.exists()
    finished = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").glob("*/*/done.json")}
    assert {p.parts[-3] for p in finished} == {"export", "optimize", "reference", "engine"}
    recipe = dataclasses.replace(QUICK, precision="fp32")
    result = build_model(MODELS["vit"], CPU, out=out, recipe=recipe, cache=StageCache(tmp_path / "cache"))
    assert verify_bundle(result.bundle)
    assert [p.name for p in out.parent.iterdir()] == ["bundle"]
    # the second build took every stage that the first had finished, and made none of them again
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").glob("*/*/done.json")} == finished
