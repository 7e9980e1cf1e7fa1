"""Builds that a device finishes: the same answers as a build here, and refusals before the slow part."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from typing import Any, Literal

import numpy as np
import pytest

from edgevit.build.build import build_model
from edgevit.cli.demo_models import MODELS, write_digits
from edgevit.core.errors import BundleError, DataError, DeviceError
from edgevit.core.quantization import Quantization
from edgevit.core.recipe import Recipe
from edgevit.core.target import load_target, read_architecture
from edgevit.measure.evaluate import evaluate_bundle
from edgevit.measure.reference import generate_images
from edgevit.remote.answers import open_on
from edgevit.remote.build_on import build_on, finish_on
from edgevit.remote.measure import bench_on
from edgevit.runtime import open_bundle
from edgevit.runtime.bundle import load_bundle, verify_bundle
from edgevit.runtime.manifest import dump_manifest, load_manifest
from edgevit.runtime.pack_file import pack_file
from tests.support.digits import write_few
from tests.support.loopback import HOST
from tests.support.tiny_bundle import make_bundle

QUICK = Recipe(precision="fp32", batch=(1, 2, 4), latency_runs=2, latency_seconds=0.05, tune_settings=False)


@pytest.fixture(scope="module")
def portable(tmp_path_factory):
    """The demonstration ViT as a portable bundle for ONNX Runtime."""
    out = tmp_path_factory.mktemp("portable") / "bundle"
    return build_model(MODELS["vit"], load_target("cpu"), out=out, recipe=QUICK, portable=True).bundle


@pytest.fixture(scope="module")
def kept():
    """What the device finished, for all tests of this file."""
    return {}


@pytest.fixture
def finished(loopback, portable, kept, tmp_path_factory, tmp_path):
    """A copy of the portable bundle as the device finished it."""
    if not kept:
        kept["bundle"] = finish_on(HOST, portable, out=tmp_path_factory.mktemp("finished") / "bundle").bundle
    return shutil.copytree(kept["bundle"], tmp_path / "done")


@pytest.mark.parametrize("target", [pytest.param("cpu", marks=pytest.mark.slow), "intel-cpu"])
def test_build_on_a_device_ends_in_a_finished_bundle_with_the_answers_of_a_build_here(target, loopback, tmp_path):
    profile = load_target(target)
    if profile.architecture not in (None, read_architecture()):
        pytest.skip(f"{target} is for {profile.architecture}")
    here = build_model(MODELS["vit"], profile, out=tmp_path / "here", recipe=QUICK)
    lines: list[str] = []
    there = build_on(HOST, MODELS["vit"], profile, out=tmp_path / "there", recipe=QUICK, log=lines.append)
    assert there.bundle == tmp_path / "there"
    assert verify_bundle(there.bundle).manifest == there.manifest
    assert not there.manifest.portable
    (variant,) = there.report.variants
    assert variant.parity.passed
    assert variant.latency is not None
    assert there.report.stages["finish"] > 0
    assert any(line.startswith("latency: ") for line in lines)
    pixels = generate_images(5, 32, 32, seed=3)
    with open_bundle(here.bundle) as local, open_bundle(there.bundle) as remote:
        np.testing.assert_array_equal(remote.run(pixels), local.run(pixels))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here", "there"]
    assert loopback.jobs == []


@pytest.mark.slow
def test_int8_of_a_device_has_the_answers_of_int8_here_and_recalls_how_its_graph_was_judged(loopback, tmp_path):
    files, target = write_digits(tmp_path / "digits"), load_target("cpu")
    recipe = dataclasses.replace(QUICK, precision="int8", batch=(1, 1, 1), quantization=Quantization(images=40))
    given: dict[str, Any] = {"recipe": recipe, "calibration": files.calibration, "validation": files.validation}
    here = build_model(MODELS["vit"], target, out=tmp_path / "here", **given)
    there = build_on(HOST, MODELS["vit"], target, out=tmp_path / "there", **given)
    pixels = generate_images(8, 32, 32, seed=3)
    with open_bundle(here.bundle) as local, open_bundle(there.bundle) as remote:
        np.testing.assert_array_equal(remote.run(pixels), local.run(pixels))
    assert "its graph in ONNX Runtime, at the build: top-1 " in there.report.verdict.sentence
    assert "edgevit eval" in there.report.verdict.next_step


def test_build_on_a_device_of_another_architecture_is_refused_before_the_checkpoint_is_read(loopback, tmp_path):
    other: Literal["x86_64", "aarch64"] = "aarch64" if read_architecture() == "x86_64" else "x86_64"
    target = dataclasses.replace(load_target("cpu"), architecture=other)
    with pytest.raises(DeviceError, match=f"for {other}"):
        build_on(HOST, tmp_path / "no such checkpoint", target, out=tmp_path / "out")


def test_build_that_the_device_fails_keeps_the_portable_bundle_and_an_earlier_one(loopback, tmp_path, portable):
    earlier = shutil.copytree(portable, tmp_path / "out")
    before = (earlier / "manifest.json").read_bytes()
    # Nothing runs a library of this version: the device refuses it, as a board with an old JetPack does.
    target = dataclasses.replace(load_target("cpu"), runtime_version="99.0")
    lines: list[str] = []
    with pytest.raises(DeviceError, match=r"board: .*onnxruntime 99\.0 or later \(here: ") as caught:
        build_on(HOST, MODELS["vit"], target, out=tmp_path / "out", recipe=QUICK, log=lines.append)
    assert "edgevit finish" in caught.value.hint
    assert (earlier / "manifest.json").read_bytes() == before
    assert verify_bundle(tmp_path / "out.portable").manifest.portable
    assert lines[-1].endswith(f"edgevit finish {tmp_path}/out.portable --on board --out {tmp_path}/out")


def test_finished_bundle_is_not_finished_again_and_can_be_timed_and_judged_on_the_device(
    loopback, tmp_path, portable, finished
):
    with pytest.raises(BundleError, match="is finished") as caught:
        finish_on(HOST, finished)
    assert caught.value.hint == f"measure it with edgevit bench {finished} --on board"
    copy = pack_file(finished, tmp_path / "copy.edgevit")
    comparison = bench_on(HOST, [finished, copy], ["--runs", "4", "--seconds", "0.05", "--batch", "4"])
    assert [row.bundle for row in comparison.bundles] == [str(finished), str(copy)]
    assert [row.latency.batch for row in comparison.bundles] == [4, 4]
    assert comparison.bundles[1].ratio is not None
    with pytest.raises(BundleError, match="it has no engine yet"):
        bench_on(HOST, [portable], [])
    files = write_few(tmp_path / "digits", 4).validation
    here = evaluate_bundle(finished, files, reference=MODELS["vit"])

    def cut_once(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("accuracy", 16):
            assert loopback.drop_connections() == 1

    lines: list[str] = []
    open_with = functools.partial(open_on, HOST, log=lines.append)
    with open_on(HOST, copy) as predictor:
        assert predictor.manifest == load_bundle(finished).manifest
    there = evaluate_bundle(finished, files, reference=MODELS["vit"], open_with=open_with, progress=cut_once)
    assert there == here
    assert sum("was lost" in line for line in lines) == 1
    assert loopback.jobs == []


def test_images_that_are_not_there_are_said_before_the_device_is_asked(tmp_path):
    """To open a bundle there may mean to install everything first."""
    bundle = make_bundle(tmp_path / "bundle", tmp_path / "work").path
    with pytest.raises(DataError, match="nowhere"):
        evaluate_bundle(bundle, tmp_path / "nowhere", open_with=lambda path: pytest.fail("it was opened"))


def test_damaged_bundle_is_not_sent(loopback, tmp_path, portable):
    copy = shutil.copytree(portable, tmp_path / "copy")
    (copy / "model.onnx").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        finish_on(HOST, copy)
    assert loopback.jobs == []


def test_engine_that_answers_something_else_there_is_refused_in_one_sentence(loopback, tmp_path, finished):
    manifest = load_manifest(finished)
    record = manifest.canary
    assert record.place.backend == "onnxruntime"
    place = dataclasses.replace(record.place, device="another board")
    strict = dataclasses.replace(manifest, canary=dataclasses.replace(record, place=place, least_db=500.0))
    (finished / "manifest.json").write_bytes(dump_manifest(strict))
    files = write_few(tmp_path / "digits", 1).validation
    said = (
        r"board: .*the engine answers something else here than at the build: .*500\.0 dB is the least; what differs: "
    )
    said += r"device .*, at the build another board"
    with pytest.raises(DeviceError, match=said) as caught:
        evaluate_bundle(finished, files, open_with=functools.partial(open_on, HOST))
    assert "--check never" in caught.value.hint
    with pytest.raises(DeviceError, match=said):
        bench_on(HOST, [finished], ["--runs", "1", "--seconds", "0.01"])
    timed = bench_on(HOST, [finished], ["--runs", "1", "--seconds", "0.01", "--check", "never"])
    assert timed.bundles[0].canary.status == "not checked"
    with open_on(HOST, finished, check="never") as predictor:
        assert predictor.canary.status == "not checked"
        assert predictor.run_outputs(generate_images(1, 32, 32, seed=3))[0].shape == (1, 10)
