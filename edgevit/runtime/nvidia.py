"""NVIDIA GPUs on this machine, asked of the driver alone.

TensorRT's own runtime can end the process where there is no driver, so the driver is asked first.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

from edgevit.errors import DeviceError

# CUdevice_attribute in cuda.h
_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True)
class Gpu:
    """One GPU, as its driver describes it."""

    name: str
    compute_capability: str
    memory_bytes: int


def read_gpus(library: Any = None) -> tuple[Gpu, ...]:
    """The GPUs that the NVIDIA driver lists.

    Args:
        library: The driver's library, for tests; loaded by default.

    Raises:
        DeviceError: There is no driver, or it does not start.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    hint = "install the NVIDIA driver, or run on the device itself"
    if library is None:
        try:
            library = ctypes.CDLL(name)
        except OSError as exc:
            raise DeviceError(f"no NVIDIA driver: {name} is not there", hint) from exc
    status = library.cuInit(0)
    if status != 0:
        raise DeviceError(f"the NVIDIA driver does not start: cuInit returned {status}", hint)
    count = ctypes.c_int()
    _call(library.cuDeviceGetCount, ctypes.byref(count))
    return tuple(_read_gpu(library, index) for index in range(count.value))


def _read_gpu(library: Any, index: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    memory, name = ctypes.c_size_t(), ctypes.create_string_buffer(256)
    _call(library.cuDeviceGet, ctypes.byref(device), index)
    _call(library.cuDeviceGetName, name, len(name), device)
    _call(library.cuDeviceGetAttribute, ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, device)
    _call(library.cuDeviceGetAttribute, ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, device)
    _call(library.cuDeviceTotalMem_v2, ctypes.byref(memory), device)
    return Gpu(name.value.decode(errors="replace"), f"{major.value}.{minor.value}", memory.value)


def _call(function: Any, *arguments: Any) -> None:
    status = function(*arguments)
    if status != 0:
        name = getattr(function, "__name__", "a call")
        raise DeviceError(f"the NVIDIA driver failed: {name} returned {status}", "check the driver with nvidia-smi")
