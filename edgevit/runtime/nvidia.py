"""NVIDIA GPUs on this machine, asked only of the driver.

TensorRT's own runtime can end the process where there is no driver, so the driver is asked first.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgevit.core.engine import GpuRecord
from edgevit.core.errors import DeviceError
from edgevit.core.report.machine import Gpu

# CUdevice_attribute in cuda.h
_MULTIPROCESSORS, _COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR = 16, 75, 76

HINT = "install the NVIDIA driver, or run on the device itself"
"""Where nothing more is known."""
# CUresult in cuda.h: what cuInit says on machines that people have
_START_FAILURES = {
    34: ("the library is the CUDA toolkit's stub", "take the toolkit's stubs folder out of LD_LIBRARY_PATH"),
    100: ("it sees no GPU", "in a container, start it with the GPU (--gpus all, or --runtime nvidia on a Jetson)"),
    802: ("the system is not ready", "start nvidia-fabricmanager, or wait until the machine is up"),
    803: ("its library and its kernel module are of two versions", "restart the machine after the driver's update"),
    999: ("it does not say why", "check it with nvidia-smi, and restart the machine if that fails too"),
}


def read_gpus(library: Any = None) -> tuple[Gpu, ...]:
    """The GPUs that the NVIDIA driver lists.

    Args:
        library: The driver's library, for tests; loaded by default.

    Raises:
        DeviceError: There is no driver, or it does not start.
    """
    library = library or _load_driver()
    status = library.cuInit(0)
    if status != 0:
        reason, hint = _START_FAILURES.get(status, ("", HINT))
        raise DeviceError(
            f"the NVIDIA driver does not start: cuInit returned {status}{f': {reason}' if reason else ''}", hint
        )
    count = ctypes.c_int()
    _call(library.cuDeviceGetCount, ctypes.byref(count))
    return tuple(_read_gpu(library, index) for index in range(count.value))


def read_driver_version(library: Any = None) -> str:
    """The newest CUDA that the driver serves, such as ``12.6``.

    Raises:
        DeviceError: There is no driver.
    """
    library = library or _load_driver()
    version = ctypes.c_int()
    _call(library.cuDriverGetVersion, ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def describe_driver(root: Path = Path("/"), library: Any = None) -> str:
    """The driver's own version where its kernel module tells it, and the CUDA that it serves: ``550.54.14, CUDA 12.4``.

    Raises:
        DeviceError: There is no driver.
    """
    serves = f"CUDA {read_driver_version(library)}"
    try:
        text = (root / "proc/driver/nvidia/version").read_text(errors="replace")
    except OSError:
        return serves
    module = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", text)
    return f"{module.group(1)}, {serves}" if module else serves


def choose_gpu(gpus: Sequence[Gpu], record: GpuRecord | None) -> Gpu | None:
    """The GPU to open an engine on: the very model that it is for, else one of its compute capability, else none.

    Args:
        gpus: Those here.
        record: What the engine is for; ``None`` where it does not say, which any GPU fits.
    """
    fitting = [g for g in gpus if record is None or g.compute_capability == record.compute_capability]
    alike = [g for g in fitting if record is not None and g.name == record.name]
    return next(iter([*alike, *fitting]), None)


def find_gpu(compute_capability: str | None) -> Gpu | None:
    """A GPU of the compute capability, or any where it is ``None``; ``None`` without one or without a driver."""
    try:
        return choose_gpu(read_gpus(), GpuRecord(compute_capability) if compute_capability is not None else None)
    except DeviceError:
        return None


def _load_driver() -> Any:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as exc:
        raise DeviceError(f"no NVIDIA driver: {name} is not there", HINT) from exc


def _read_gpu(library: Any, index: int) -> Gpu:
    device, memory, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(256)
    _call(library.cuDeviceGet, ctypes.byref(device), index)
    _call(library.cuDeviceGetName, name, len(name), device)
    _call(library.cuDeviceTotalMem_v2, ctypes.byref(memory), device)

    def read(attribute: int) -> int:
        value = ctypes.c_int()
        _call(library.cuDeviceGetAttribute, ctypes.byref(value), attribute, device)
        return value.value

    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{read(_COMPUTE_CAPABILITY_MAJOR)}.{read(_COMPUTE_CAPABILITY_MINOR)}",
        memory_bytes=memory.value,
        multiprocessors=read(_MULTIPROCESSORS),
        index=index,
    )


def _call(function: Any, *arguments: Any) -> None:
    status = function(*arguments)
    if status != 0:
        name = getattr(function, "__name__", "a call")
        raise DeviceError(f"the NVIDIA driver failed: {name} returned {status}", "check the driver with nvidia-smi")
