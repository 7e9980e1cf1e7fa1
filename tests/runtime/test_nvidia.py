from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgevit.core.engine import GpuRecord
from edgevit.core.errors import DeviceError
from edgevit.core.report.machine import Gpu
from edgevit.runtime.nvidia import choose_gpu, describe_driver, read_driver_version, read_gpus


class _Driver:
    """A driver's library with two GPUs."""

    GPUS = (Gpu("Orin", "8.7", 8_000_000_000, 8, 0), Gpu("NVIDIA Thor", "11.0", 131_000_000_000, 20, 1))

    def __init__(self, status: int = 0, broken: str = "") -> None:
        self.status, self.broken = status, broken

    def __getattr__(self, name: str) -> Any:
        if name == self.broken:
            return lambda *arguments: 999
        return getattr(type(self), f"_{name}").__get__(self)

    def _cuInit(self, flags: int) -> int:  # noqa: N802
        return self.status

    def _cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.GPUS)
        return 0

    def _cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index + 40
        return 0

    def _cuDeviceGetName(self, name: Any, size: int, device: ctypes.c_int) -> int:  # noqa: N802
        name.value = self.GPUS[device.value - 40].name.encode()
        return 0

    def _cuDeviceGetAttribute(self, value: Any, attribute: int, device: ctypes.c_int) -> int:  # noqa: N802
        gpu = self.GPUS[device.value - 40]
        major, minor = gpu.compute_capability.split(".")
        value._obj.value = int({16: str(gpu.multiprocessors), 75: major, 76: minor}[attribute])
        return 0

    def _cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 12060
        return 0

    def _cuDeviceTotalMem_v2(self, size: Any, device: ctypes.c_int) -> int:  # noqa: N802
        size._obj.value = self.GPUS[device.value - 40].memory_bytes
        return 0


def test_gpus_are_read_with_name_capability_and_memory() -> None:
    assert read_gpus(_Driver()) == _Driver.GPUS


@pytest.mark.parametrize(
    ("status", "words", "hint"),
    [
        (100, "sees no GPU", "--gpus all"),
        (803, "two versions", "restart"),
        (34, "stub", "LD_LIBRARY_PATH"),
        (2, "", "driver"),
    ],
)
def test_driver_that_does_not_start_raises_with_its_status_and_what_to_do(status: int, words: str, hint: str) -> None:
    with pytest.raises(DeviceError, match=f"cuInit returned {status}") as caught:
        read_gpus(_Driver(status=status))
    assert words in caught.value.message
    assert hint in caught.value.hint


def test_driver_tells_the_newest_cuda_that_it_serves() -> None:
    assert read_driver_version(_Driver()) == "12.6"
    with pytest.raises(DeviceError, match="returned 999"):
        read_driver_version(_Driver(broken="cuDriverGetVersion"))


def test_the_very_gpu_of_an_engine_is_chosen_before_one_of_its_capability() -> None:
    small, large = Gpu("Orin Nano", "8.7", 1, 8, 0), Gpu("Orin", "8.7", 1, 16, 1)
    other = Gpu("NVIDIA Thor", "11.0", 1, 20, 2)
    gpus = (other, small, large)
    assert choose_gpu(gpus, GpuRecord("8.7", "Orin", 16)) is large
    assert choose_gpu(gpus, GpuRecord("8.7")) is small
    assert choose_gpu(gpus, None) is other
    assert choose_gpu(gpus, GpuRecord("8.6", "Orin")) is None
    assert choose_gpu((), None) is None


def test_driver_that_fails_later_raises() -> None:
    with pytest.raises(DeviceError, match="returned 999"):
        read_gpus(_Driver(broken="cuDeviceGetAttribute"))


def test_machine_without_driver_raises_instead_of_crashing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("edgevit.runtime.nvidia.ctypes", SimpleNamespace(CDLL=refuse))
    with pytest.raises(DeviceError, match="no NVIDIA driver"):
        read_gpus()


@pytest.mark.gpu
def test_real_gpu_is_read() -> None:
    assert all(gpu.memory_bytes > 0 and "." in gpu.compute_capability for gpu in read_gpus())


@pytest.mark.parametrize(
    ("text", "version"),
    [
        # as drivers write it: a desktop, a server with open modules, a Jetson
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\nGCC version:",
            "550.54.14",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.133.20  Release Build  (dvs-builder)",
            "570.133.20",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (buildbrain)", "540.4.0"),
        ("something else", None),
        (None, None),
    ],
)
def test_driver_is_told_by_its_own_version_and_cudas(tmp_path: Path, text: str | None, version: str | None) -> None:
    if text is not None:
        (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
        (tmp_path / "proc/driver/nvidia/version").write_text(text)
    serves = f"CUDA {read_driver_version(_Driver())}"
    assert describe_driver(tmp_path, _Driver()) == (f"{version}, {serves}" if version else serves)
