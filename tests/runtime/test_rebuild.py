"""Bundles for an NVIDIA GPU on machines that they do not fit, and on those that they do."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path

import numpy as np
import pytest

from edgevit.build.pack import pack_bundle
from edgevit.core.errors import BundleError, DeviceError
from edgevit.core.report.machine import Gpu
from edgevit.core.target import load_target
from edgevit.engines.tensorrt.backend import PLAN_FILE, TENSORRT, TENSORRT_RTX
from edgevit.runtime import open_bundle
from edgevit.runtime.bundle import Bundle
from tests.support.gpu_double import Machine
from tests.support.tiny_bundle import make_manifest
from tests.support.tiny_onnx import compute_logits, make_images, write_classifier


def make_bundle(tmp_path: Path, target_name: str) -> Bundle:
    target, work = load_target(target_name), tmp_path / "work"
    work.mkdir()
    backend = TENSORRT_RTX if target.backend == "tensorrt_rtx" else TENSORRT
    engine = backend.compile(write_classifier(work / "model.onnx"), target, "fp32", work, {})
    manifest = make_manifest(engine=engine, target=target)
    return pack_bundle(tmp_path / "bundle", files={PLAN_FILE: work / PLAN_FILE}, manifest=manifest)


@pytest.fixture
def jetson_bundle(orin: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    return make_bundle(tmp_path, "jetson")


@pytest.fixture
def rtx_bundle(rtx_3060: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return make_bundle(tmp_path, "rtx-30")


def refuse(bundle: Bundle) -> BundleError:
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle.path)
    return caught.value


@pytest.mark.parametrize("name", ["jetson_bundle", "rtx_bundle"])
def test_bundle_answers_on_its_device(name: str, request: pytest.FixtureRequest) -> None:
    bundle: Bundle = request.getfixturevalue(name)
    images = make_images(2)
    with open_bundle(bundle.path) as predictor:
        assert np.abs(predictor.run(images) - compute_logits(images)).max() < 1e-4
        assert predictor.differences == ()
        assert predictor.session.settings["transfers"] == "included"


def test_another_release_of_tensorrt_names_both_and_how_to_finish_again(
    jetson_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "10.4.0")
    error = refuse(jetson_bundle)
    assert "the plan was written by tensorrt 10.3.0, which tensorrt 10.4.0 here does not read" in error.message
    assert "edgevit finish" in error.hint
    assert f"--target jetson-orin-nano --precision fp32 --out {jetson_bundle.path}" in error.hint


def test_another_release_of_tensorrt_rtx_can_be_installed_or_built_for(
    rtx_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setattr(sys.modules["tensorrt_rtx"], "__version__", "1.8.0.50")
    error = refuse(rtx_bundle)
    assert "written by tensorrt_rtx 1.7.1.116, which tensorrt_rtx 1.8.0.50 here does not read" in error.message
    assert "edgevit build checkpoints/tiny --target rtx-30" in error.hint
    assert 'pip install "tensorrt-rtx==1.7.1.116"' in error.hint


def test_gpu_of_another_family_gets_the_command_for_its_own_profile(rtx_bundle: Bundle, rtx_3060: Machine) -> None:
    rtx_3060.gpu = Gpu("NVIDIA GeForce RTX 4090", "8.9", 24 << 30, 128)
    error = refuse(rtx_bundle)
    assert "a GPU of compute capability 8.6; here: NVIDIA GeForce RTX 4090, 8.9" in error.message
    assert "--target rtx-40 " in error.hint
    assert "pip install" not in error.hint
    rtx_3060.gpu = Gpu("NVIDIA H100", "9.0", 80 << 30, 132)
    assert "compute_capability = '9.0'" in refuse(rtx_bundle).hint


def test_other_board_gets_its_own_profile(jetson_bundle: Bundle, orin: Machine) -> None:
    orin.gpu = Gpu("NVIDIA Thor", "11.0", 128 << 30, 20)
    error = refuse(jetson_bundle)
    assert "Orin (compute capability 8.7); here: NVIDIA Thor, 11.0" in error.message
    assert "--target jetson-thor " in error.hint
    assert "edgevit finish" in error.hint


def test_machine_without_a_gpu_is_sent_to_the_device(rtx_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_driver() -> None:
        raise DeviceError("no NVIDIA driver: libcuda.so.1 is not there", "install the NVIDIA driver")

    monkeypatch.setattr("edgevit.runtime.nvidia._load_driver", refuse_driver)
    error = refuse(rtx_bundle)
    assert "no NVIDIA driver" in error.message
    assert error.hint.startswith("open it on NVIDIA GeForce RTX 30 series with TensorRT-RTX")


def test_same_family_on_another_model_opens_with_a_difference(jetson_bundle: Bundle, orin: Machine) -> None:
    orin.gpu = dataclasses.replace(orin.gpu, multiprocessors=16)
    with open_bundle(jetson_bundle.path) as predictor:
        assert predictor.differences == ("compiled and measured on Orin with 8 multiprocessors; here it has 16",)
