"""What a target lacks on this machine; the library, the device and the GPU are pretended."""

from __future__ import annotations

import dataclasses
import platform

import pytest

import edgevit.engines.tensorrt.backend  # noqa: F401  imported under a pretended driver, it would keep that
from edgevit.core.errors import DeviceError, MissingPackageError
from edgevit.core.target import list_targets, load_target
from edgevit.engines.availability import target_status

NAMES = tuple(target.name for target in list_targets())


def _pretend(
    monkeypatch: pytest.MonkeyPatch, backend: str, devices: tuple[str, ...], version: str, machine: str
) -> None:
    module = f"edgevit.runtime.{backend}"
    monkeypatch.setattr(f"{module}.list_devices", lambda: devices)
    monkeypatch.setattr(f"{module}.read_versions", lambda: {backend: version})
    monkeypatch.setattr(platform, "machine", lambda: machine)


@pytest.mark.parametrize(
    ("name", "backend", "devices", "machine"),
    [
        ("intel-cpu", "openvino", ("CPU",), "x86_64"),
        ("intel-cpu", "openvino", ("CPU",), "AMD64"),
        ("intel-igpu", "openvino", ("CPU", "GPU.0", "GPU.1"), "x86_64"),
        ("intel-npu", "openvino", ("CPU", "NPU"), "x86_64"),
        ("cpu", "onnxruntime", ("CPU",), "riscv64"),
        ("raspberry-pi-5", "onnxruntime", ("CPU",), "aarch64"),
        ("raspberry-pi-5", "onnxruntime", ("CPU",), "arm64"),
    ],
)
def test_target_whose_device_is_here_lacks_nothing(
    monkeypatch: pytest.MonkeyPatch, name: str, backend: str, devices: tuple[str, ...], machine: str
) -> None:
    _pretend(monkeypatch, backend, devices, "2026.4", machine)
    status = target_status(load_target(name))
    assert (status.buildable, status.runnable, status.missing) == (True, True, ())


@pytest.mark.parametrize("name", ["intel-igpu", "intel-npu"])
def test_absent_device_is_named_with_those_that_are_here(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    _pretend(monkeypatch, "openvino", ("CPU",), "2026.4", "x86_64")
    target = load_target(name)
    status = target_status(target)
    assert not status.buildable
    assert not status.runnable
    assert status.missing == (f"openvino's device {target.device} (here: CPU)",)


def test_other_architecture_is_named_with_both(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, "onnxruntime", ("CPU",), "1.20", "x86_64")
    assert target_status(load_target("raspberry-pi-5")).missing == ("a machine with aarch64 (this one has x86_64)",)


def test_library_that_is_too_old_is_named_with_both_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, "onnxruntime", ("CPU",), "1.16.3", "x86_64")
    assert target_status(load_target("cpu")).missing == ("onnxruntime 1.17 or later (here: 1.16.3)",)


def test_absent_package_is_named_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> tuple[str, ...]:
        raise MissingPackageError("openvino is not installed", 'pip install "edgevit[openvino]"')

    monkeypatch.setattr("edgevit.runtime.openvino.list_devices", refuse)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert target_status(load_target("intel-cpu")).missing == (
        'openvino is not installed: pip install "edgevit[openvino]"',
    )


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> tuple[object, ...]:
        raise DeviceError("no NVIDIA driver: libcuda.so.1 is not there")

    monkeypatch.setattr("edgevit.runtime.nvidia.read_gpus", refuse)


@pytest.mark.usefixtures("no_driver")
@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith(("jetson", "nvidia"))])
def test_tensorrt_without_a_gpu_neither_builds_nor_runs(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    target = load_target(name)
    monkeypatch.setattr(platform, "machine", lambda: target.architecture or "x86_64")
    status = target_status(target)
    assert not status.buildable
    assert not status.runnable
    assert "an NVIDIA GPU (no NVIDIA driver: libcuda.so.1 is not there)" in status.missing


def test_other_architecture_is_all_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever installs TensorRT on a desk gets no further with a Jetson's target."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert target_status(load_target("jetson")).missing == ("a machine with aarch64 (this one has x86_64)",)


@pytest.mark.usefixtures("no_driver")
@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("rtx")])
def test_tensorrt_rtx_builds_without_a_gpu_but_does_not_run(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    status = target_status(load_target(name))
    assert (status.buildable, status.runnable) == (True, False)
    assert "an NVIDIA GPU (no NVIDIA driver: libcuda.so.1 is not there)" in status.missing
    other = dataclasses.replace(load_target(name), compute_capability="8.7")
    assert not target_status(other).buildable
    assert any("SM86" in missing for missing in target_status(other).missing)


@pytest.mark.usefixtures("no_driver")
def test_absent_tensorrt_rtx_is_named_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise MissingPackageError("tensorrt_rtx cannot be imported: no module", 'pip install "edgevit[rtx]"')

    monkeypatch.setattr("edgevit.engines.tensorrt.backend.TensorRT._import", refuse)
    status = target_status(load_target("rtx-40"))
    assert not status.buildable
    assert any("edgevit[rtx]" in missing for missing in status.missing)


def test_other_gpu_is_named_with_both_compute_capabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgevit.core.report.machine import Gpu

    monkeypatch.setattr("edgevit.runtime.nvidia.read_gpus", lambda: (Gpu("NVIDIA GeForce RTX 4090", "8.9", 1, 128),))
    wanted = "a GPU of compute capability 8.6 (here: NVIDIA GeForce RTX 4090, 8.9)"
    assert wanted in target_status(load_target("rtx-30")).missing
    assert not any("compute capability" in missing for missing in target_status(load_target("rtx-40")).missing)
    assert not any("an NVIDIA GPU" in missing for missing in target_status(load_target("nvidia-gpu")).missing)


def test_status_of_every_profile_is_told_on_this_machine() -> None:
    for target in list_targets():
        status = target_status(target)
        assert (status.missing == ()) == (status.buildable and status.runnable)
