from __future__ import annotations

import dataclasses

import pytest

from edgevit.core.engine import Engine
from edgevit.runtime import openvino as runtime
from edgevit.runtime.settings import OpenSettings

pytest.importorskip("openvino")

ENGINE = Engine(
    backend="openvino",
    device="CPU",
    precision="fp32",
    files=("model.xml", "model.bin"),
    inputs=(),
    outputs=(),
    versions={"openvino": "2025.1.0-1-abc"},
)


def _pretend(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(runtime, "read_versions", lambda: {"openvino": version})


@pytest.mark.parametrize("version", ["2025.1.9", "2025.2.0", "2026.0.0-7-x"])
def test_later_openvino_opens_and_says_so(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    _pretend(monkeypatch, version)
    assert runtime.find_mismatch(ENGINE) is None
    (difference,) = runtime.find_differences(ENGINE)
    assert "2025.1.0" in difference
    assert version in difference


@pytest.mark.parametrize("version", ["2025.0.0", "2024.6.0-3-x"])
def test_older_openvino_is_refused_with_both_versions(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    _pretend(monkeypatch, version)
    mismatch = runtime.find_mismatch(ENGINE)
    assert mismatch is not None
    assert "2025.1.0" in mismatch
    assert version in mismatch


def test_same_openvino_differs_in_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, "2025.1.0-1-abc")
    assert runtime.find_differences(ENGINE) == ()


def test_numbered_gpu_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "list_devices", lambda: ("CPU", "GPU.0", "GPU.1"))
    assert runtime.has_device("GPU")
    assert runtime.has_device("GPU.1")
    assert not runtime.has_device("GP")
    assert not runtime.has_device("NPU")


def test_absent_device_is_named_with_those_that_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "list_devices", lambda: ("CPU",))
    mismatch = runtime.find_mismatch(dataclasses.replace(ENGINE, device="GPU"))
    assert mismatch == "the engine is for OpenVINO's device GPU; here: CPU"


@pytest.mark.parametrize(
    ("physical", "logical", "expected"),
    [
        (1, 2, {"INFERENCE_NUM_THREADS": 2, "ENABLE_HYPER_THREADING": True}),
        (2, 2, {"INFERENCE_NUM_THREADS": 2}),
        (8, 16, {}),
    ],
)
def test_second_thread_of_a_core_is_used_on_small_machines_alone(
    monkeypatch: pytest.MonkeyPatch, physical: int, logical: int, expected: dict[str, object]
) -> None:
    monkeypatch.setattr(runtime, "count_physical_cores", lambda: physical)
    monkeypatch.setattr(runtime, "count_logical_cores", lambda: logical)
    monkeypatch.setattr(runtime, "choose_threads", lambda: logical)
    assert runtime.build_config(OpenSettings(), "CPU") == {"PERFORMANCE_HINT": "LATENCY", **expected}


def test_settings_become_openvinos_properties() -> None:
    settings = OpenSettings("throughput", 3, 2, "bf16", {"ENABLE_CPU_PINNING": False})
    config = runtime.build_config(settings, "CPU")
    config.pop("ENABLE_HYPER_THREADING", None)
    assert config == {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": "bf16",
        "NUM_STREAMS": 2,
        "INFERENCE_NUM_THREADS": 3,
        "ENABLE_CPU_PINNING": False,
    }


def test_a_gpu_gets_no_cpu_threads() -> None:
    assert runtime.build_config(OpenSettings(threads=3), "GPU") == {"PERFORMANCE_HINT": "LATENCY"}


@pytest.mark.parametrize(
    ("floats", "tier", "opens"),
    [
        ("bf16", "avx2", False),
        ("bf16", "avx2_vnni", False),
        ("bf16", "avx512_vnni", True),  # emulated
        ("bf16", "amx", True),
        ("f16", "avx512_bf16", False),
        ("f16", "amx", True),
        ("f32", "avx2", True),
        ("bf16", None, True),
    ],
)
def test_an_engine_of_a_float_type_that_the_processor_lacks_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, floats: str, tier: str | None, opens: bool
) -> None:
    monkeypatch.setattr(runtime, "read_tier", lambda: tier)
    mismatch = runtime.find_mismatch(dataclasses.replace(ENGINE, settings={"inference_precision": floats}))
    assert (mismatch is None) is opens
    assert opens or f"computes in {floats}" in str(mismatch)
