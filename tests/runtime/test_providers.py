"""Execution providers of ONNX Runtime: what is missing is refused, and what falls back is told. Pretended, unless one
is here."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgevit.core.engine import Engine, load_engine
from edgevit.core.errors import BundleError, CompileError, DeviceError, TargetError
from edgevit.core.libraries import LIBRARIES
from edgevit.core.providers import PROVIDERS
from edgevit.core.report.machine import Gpu
from edgevit.core.target import Target, load_target
from edgevit.engines.availability import target_status
from edgevit.engines.compile import compile_engine
from edgevit.engines.fusion_file import load_fusion
from edgevit.runtime.bundle_settings import check_build_settings
from edgevit.runtime.providers import PRODUCTS, find_absence
from edgevit.runtime.session import get_runtime, open_engine
from edgevit.runtime.settings import check_bundled_settings
from tests.support.provider_double import make_target, pretend_provider
from tests.support.tiny_onnx import compute_logits, make_images, write_classifier

OTHERS = tuple(device for device in PROVIDERS if device != "CPU")


def _is_absent(device: str) -> bool:
    return PROVIDERS[device].name not in onnxruntime.get_available_providers()


def _compile(tmp_path: Path, target: Target) -> Engine:
    return compile_engine(write_classifier(tmp_path / "float.onnx"), target, "fp32", tmp_path / "engine")


@pytest.mark.parametrize("device", [device for device in OTHERS if _is_absent(device)])
def test_absent_provider_is_refused_with_what_brings_it(tmp_path: Path, device: str) -> None:
    with pytest.raises(DeviceError) as caught:
        _compile(tmp_path, make_target(device))
    assert f"no {PROVIDERS[device].name}" in caught.value.message
    assert PROVIDERS[device].install_line in caught.value.message
    (missing,) = target_status(make_target(device)).missing
    assert missing.startswith(f"onnxruntime's device {device} (here: CPU")
    assert PROVIDERS[device].install_line in missing


def test_bundle_of_an_absent_provider_does_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as here:
        pretend_provider(here, "cuda", PRODUCTS)
        engine = _compile(tmp_path, make_target("cuda"))
    assert engine.device == "cuda"
    if _is_absent("cuda"):
        with pytest.raises(DeviceError, match=r"no CUDAExecutionProvider, only .*onnxruntime-gpu"):
            open_engine(load_engine(engine.directory))


def test_library_that_does_not_tell_what_a_provider_takes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_provider(monkeypatch, "coreml", PRODUCTS)
    monkeypatch.setattr(onnxruntime, "InferenceSession", object)
    assert "does not tell which nodes CoreMLExecutionProvider takes" in (find_absence(onnxruntime, "coreml") or "")


@pytest.mark.parametrize("device", OTHERS)
def test_provider_computes_the_model_and_what_fell_back_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    pretend_provider(monkeypatch, device, ("MatMul", "Conv", "Gelu", "Add"))
    engine, images = _compile(tmp_path, make_target(device)), make_images(1)
    with open_engine(engine) as session:
        np.testing.assert_allclose(session.run(images), compute_logits(images), rtol=1e-5, atol=1e-5)
        assert "inference_precision" not in session.settings, "the provider chooses it"
    record = load_fusion(engine.directory)
    assert record is not None
    assert record.assignment is not None
    assert record.device == PROVIDERS[device].name
    assert record.assignment.taken == 5
    assert "LayerNormalization norm" in record.assignment.left
    assert record.layers == 1 + len(record.assignment.left)
    assert record.describe() == f"5 of {record.assignment.nodes} nodes; pieces of the graph: {record.layers}"
    assert record.leftovers()["nodes that fell back to the CPU"] == record.assignment.left
    assert get_runtime("onnxruntime").find_mismatch(engine) is None


@pytest.mark.parametrize(
    ("takes", "starts", "words"),
    [
        (PRODUCTS, False, "did not start, and ONNX Runtime fell back to CPUExecutionProvider"),
        (("Transpose", "Reshape"), True, "computes none of the 3 products of the graph: all fell back to the CPU"),
        ((), True, "computes none of the 3 products"),
    ],
)
def test_silent_fallback_is_refused_at_compiling_and_at_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes: tuple[str, ...], starts: bool, words: str
) -> None:
    with monkeypatch.context() as sound:
        pretend_provider(sound, "openvino", PRODUCTS)
        engine = _compile(tmp_path, make_target("openvino"))
    pretend_provider(monkeypatch, "openvino", takes, starts=starts)
    with pytest.raises(DeviceError, match=words):
        open_engine(engine)
    with pytest.raises(CompileError, match=words):
        _compile(tmp_path, make_target("openvino"))


def test_options_of_target_and_threads_reach_the_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = pretend_provider(monkeypatch, "openvino", PRODUCTS)
    settings = {"openvino.device_type": "GPU", "threads": 3}
    engine = _compile(tmp_path, make_target("openvino", settings=settings))
    expected = {"device_type": "GPU", "precision": "ACCURACY", "num_of_threads": "3", "num_streams": "1"}
    assert said.options[-1] == expected
    with open_engine(engine) as session:
        assert session.settings["openvino.device_type"] == "GPU"
    assert said.options[-1] == expected
    with pytest.raises(DeviceError, match=r"cuda.use_tf32 is an option of another provider than openvino"):
        open_engine(engine, {"cuda.use_tf32": "1"})


def test_place_of_cuda_is_the_gpu_and_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_provider(monkeypatch, "cuda", PRODUCTS)
    gpu = Gpu("H200", "9.0", 141 << 30, 132)
    monkeypatch.setattr("edgevit.runtime.onnxruntime.read_gpus", lambda: (gpu,))
    monkeypatch.setattr("edgevit.runtime.onnxruntime.describe_driver", lambda: "580.1")
    place = get_runtime("onnxruntime").describe_place(_compile(tmp_path, make_target("cuda")), {"cuda.use_tf32": "1"})
    assert (place.device, place.driver, place.settings) == ("H200", "580.1", {"cuda.use_tf32": "1"})


def test_bundle_sets_options_of_the_table_and_no_path() -> None:
    check_build_settings(make_target("openvino", settings={"openvino.device_type": "NPU"}), {})
    for settings in ({"openvino.cache_dir": "/tmp/x"}, {"qnn.backend_path": "x.so"}, {"openvino.device_type": "FPGA"}):
        with pytest.raises(BundleError, match="cannot stand in a bundle"):
            check_bundled_settings(settings, "onnxruntime", "it", BundleError, "hint")


@pytest.mark.parametrize("device", ["cpu", "CUDA", "GPU"])
def test_target_with_a_device_that_is_none_of_the_table_is_refused(tmp_path: Path, device: str) -> None:
    file = tmp_path / "board.toml"
    file.write_text(
        f'title = "x"\nbackend = "onnxruntime"\ndevice = "{device}"\nbuild_on = "host"\nprecisions = ["fp32"]\n'
    )
    with pytest.raises(TargetError, match="is not one of onnxruntime's: CPU, cuda, openvino, coreml"):
        load_target(file)


def test_page_of_providers_names_every_device_provider_default_and_value() -> None:
    text = (Path(__file__).parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")
    for device, provider in PROVIDERS.items():
        assert f"| `{device}` | `{provider.name}` |" in text
        assert all(f"`{option} = {value}`" in text for option, value in provider.options.items())
        for option, values in provider.choices.items():
            row = next(line for line in text.splitlines() if f"`{device}.{option}`" in line and line.startswith("|"))
            assert all(str(value) in row or (value.isdigit() and "…" in row) for value in map(str, values))


def test_examples_of_the_page_are_targets_whose_settings_may_stand_in_a_bundle(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")
    examples = re.findall(r"```toml\n(.*?)```", text, re.S)
    assert len(examples) == 2
    for example in examples:
        (tmp_path / "example.toml").write_text(example, encoding="utf-8")
        check_build_settings(load_target(tmp_path / "example.toml"), {})


def test_twins_of_the_library_are_the_builds_that_have_the_providers() -> None:
    assert LIBRARIES["onnxruntime"].twins == (
        "onnxruntime-gpu",
        "onnxruntime-openvino",
        "onnxruntime-qnn",
        "onnxruntime-migraphx",
    )


@pytest.mark.skipif(_is_absent("openvino"), reason="this build of ONNX Runtime has no OpenVINOExecutionProvider")
def test_the_openvino_provider_itself_computes_the_model(tmp_path: Path) -> None:
    engine, images = _compile(tmp_path, make_target("openvino")), make_images(1)
    with open_engine(engine) as session:
        np.testing.assert_allclose(session.run(images), compute_logits(images), rtol=1e-4, atol=1e-4)
    record = load_fusion(engine.directory)
    assert record is not None
    assert record.assignment is not None
    assert record.assignment.taken > 5
    changed = dataclasses.replace(engine, settings={**engine.settings, "openvino.device_type": "NPU"})
    with pytest.raises(DeviceError):  # no such device on the machines that tests run on
        open_engine(changed)
    assert json.loads((engine.directory / "fusion.json").read_text())["assignment"]["left"] == []
