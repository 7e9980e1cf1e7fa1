"""Clock, temperature, power and throttling of NVIDIA GPUs, asked of the driver's management library.

Its calls, constants and units: NVIDIA, "NVML API Reference Guide". A Jetson's driver answers few of them; what is not
supported is left out.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from dataclasses import dataclass, field
from typing import Any

_CLOCK_SM, _TEMPERATURE_GPU = 1, 0
_REASONS = {
    0x04: "power limit",
    0x08: "hardware slowdown",
    0x20: "too hot",
    0x40: "far too hot",
    0x80: "power brake",
}
"""Bits of ``nvmlClocksThrottleReasons``; others stand for an idle GPU and for clocks that somebody has set."""


@dataclass(frozen=True)
class GpuReading:
    """Of all GPUs, by name: ``GPU``, or ``GPU 0`` and so on where there are several."""

    clocks_mhz: dict[str, float] = field(default_factory=dict)
    temperatures_c: dict[str, float] = field(default_factory=dict)
    power_w: dict[str, float] = field(default_factory=dict)
    active: tuple[str, ...] = ()


def read_gpu_sensors(library: Any = None) -> GpuReading:
    """Read every GPU; an empty reading where there is no driver.

    Args:
        library: The management library, for tests; loaded by default.
    """
    library = library or _load()
    if library is None:
        return GpuReading()
    count, reading, active = ctypes.c_uint(), GpuReading(), []
    if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return reading
    for index in range(count.value):
        device = ctypes.c_void_p()
        if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) != 0:
            continue
        name = "GPU" if count.value == 1 else f"GPU {index}"
        value, reasons = ctypes.c_uint(), ctypes.c_ulonglong()
        if library.nvmlDeviceGetClockInfo(device, _CLOCK_SM, ctypes.byref(value)) == 0:
            reading.clocks_mhz[name] = float(value.value)
        if library.nvmlDeviceGetTemperature(device, _TEMPERATURE_GPU, ctypes.byref(value)) == 0:
            reading.temperatures_c[name] = float(value.value)
        if library.nvmlDeviceGetPowerUsage(device, ctypes.byref(value)) == 0:
            reading.power_w[name] = value.value / 1e3
        if library.nvmlDeviceGetCurrentClocksThrottleReasons(device, ctypes.byref(reasons)) == 0:
            active += [f"{name} {text}" for bit, text in _REASONS.items() if reasons.value & bit]
    return GpuReading(reading.clocks_mhz, reading.temperatures_c, reading.power_w, tuple(active))


@functools.cache
def _load() -> Any:
    """The library, started once for the life of the process; ``None`` where there is none."""
    try:
        library = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
        return library if library.nvmlInit_v2() == 0 else None
    except (OSError, AttributeError):
        return None
