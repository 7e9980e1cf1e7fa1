"""The double's driver: ``libcuda.so.1`` as ctypes calls it."""

from __future__ import annotations

import ctypes
from typing import Any

from tests.support.gpu_double import Machine


class Driver:
    """One GPU."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = self._machine.driver
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 1
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: ctypes.c_int) -> int:  # noqa: N802
        name.value = self._machine.gpu.name.encode()
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: ctypes.c_int) -> int:  # noqa: N802
        major, minor = self._machine.gpu.compute_capability.split(".")
        value._obj.value = int({16: str(self._machine.gpu.multiprocessors), 75: major, 76: minor}[attribute])
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, device: ctypes.c_int) -> int:  # noqa: N802
        size._obj.value = self._machine.gpu.memory_bytes
        return 0
