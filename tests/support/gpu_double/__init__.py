"""A machine with one NVIDIA GPU, without one: what edgevit calls of the driver, of CUDA and of TensorRT.

It computes real answers, with ONNX Runtime, on memory that has to be allocated, copied and waited for as on a GPU:
what is queued on a stream happens when somebody waits for it, and what a graph recorded happens when it is launched.
Every call can be made to fail, and what was not given back is known. ``tests/runtime/test_gpu_interface.py`` holds
every call against the real packages.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import itertools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgevit.core.report.machine import Gpu

if TYPE_CHECKING:
    import pytest

ORIN = Gpu("Orin", "8.7", 8 << 30, 8)
RTX_3060 = Gpu("NVIDIA GeForce RTX 3060", "8.6", 12 << 30, 28)
MACHINES = {
    "orin": (ORIN, 12060, {"tensorrt": "10.3.0"}),
    "rtx-3060": (RTX_3060, 13000, {"tensorrt_rtx": "1.7.1.116"}),
}
"""GPU, CUDA's version that the driver serves, and libraries, by name."""

BINDINGS = "12.9.10"
"""Of cuda-bindings there."""


@dataclass
class Held:
    """Something that was taken and is to be given back."""

    kind: str
    size: int = 0
    buffer: Any = None


@dataclass
class Work:
    """Something to do on a stream, and where in memory."""

    do: Callable[[], None]
    memory: tuple[int, ...]


@dataclass
class Handle:
    """A stream, an event or a graph.

    Attributes:
        work: What a stream has to do, or a graph holds.
        capture: What a stream records, while it does.
        broken: Something in it cannot be recorded.
        stream: That an event waits for.
    """

    kind: str
    number: int
    work: list[Work] = field(default_factory=list)
    capture: list[Work] | None = None
    broken: bool = False
    stream: Handle | None = None

    def __int__(self) -> int:
        return self.number


class Machine:
    """The state behind the double.

    Attributes:
        held: What was taken and not given back, by address or number.
        calls: Names of the calls that can fail, as they came.
        fail_at: The call of this number, from 1, fails.
        sticky: Once set, every call of CUDA fails with this status, as after an illegal access.
        flags: Of the device.
        sleeps: Whether the last event was made for waits that sleep.
        driver: CUDA's version, as the driver gives it.
        device: The calling thread's, as CUDA has it.
    """

    def __init__(self, gpu: Gpu = ORIN, driver: int = 12060) -> None:
        self.gpu, self.driver = gpu, driver
        self.held: dict[int, Held] = {}
        self.handles: dict[int, Handle] = {}
        self.calls: list[str] = []
        self.fail_at: int | None = None
        self.sticky: int | None = None
        self.flags, self.sleeps = 0, False
        self.device = 0
        self._numbers = itertools.count(0x7000)

    def fails(self, call: str) -> bool:
        """Count a call; whether it is the one that is to fail."""
        self.calls.append(call)
        return len(self.calls) == self.fail_at

    def take_memory(self, kind: str, size: int) -> int | None:
        """Address of new memory; ``None`` where the GPU has no more."""
        if kind == "gpu" and self.used_bytes + size > self.gpu.memory_bytes:
            return None
        buffer = ctypes.create_string_buffer(b"\xa5" * size, size)  # nobody may count on zeros
        address = ctypes.addressof(buffer)
        self.held[address] = Held(kind, size, buffer)
        return address

    @property
    def used_bytes(self) -> int:
        """Of the GPU's memory."""
        return sum(item.size for item in self.held.values() if item.kind == "gpu")

    def take_number(self, kind: str, size: int = 0) -> int:
        """A number for something that is no memory; ``size`` bytes of the GPU's memory go with it."""
        number = next(self._numbers)
        self.held[number] = Held("gpu" if size else kind, size)
        return number

    def take_handle(self, kind: str) -> Handle:
        """A new stream, event or graph."""
        handle = Handle(kind, self.take_number(kind))
        self.handles[handle.number] = handle
        return handle

    def find_kind(self, address: int, size: int) -> str | None:
        """Where ``size`` bytes from ``address`` lie: ``gpu`` or ``pinned``; ``None`` where that was never allocated."""
        for start, item in self.held.items():
            if item.buffer is not None and start <= address and address + size <= start + item.size:
                return item.kind
        return None


def read(address: int, size: int) -> bytes:
    """Memory's content."""
    return ctypes.string_at(address, size)


def write(address: int, content: bytes) -> None:
    """Change memory's content."""
    ctypes.memmove(address, content, len(content))


def install_everywhere(name: str, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Let this process, and those that it starts, see one of ``MACHINES``."""
    gpu, driver, versions = MACHINES[name]
    machine = Machine(gpu, driver)
    install(machine, versions, monkeypatch.setitem)
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: BINDINGS if name == "cuda-bindings" else real(name))
    folder = Path(__file__).parent
    monkeypatch.setenv("EDGEVIT_GPU_DOUBLE", name)
    monkeypatch.setenv("PYTHONPATH", f"{folder / 'site'}{os.pathsep}{folder.parents[1]}")
    return machine


def install(machine: Machine, versions: dict[str, str], put: Callable[[dict[str, Any], str, Any], None]) -> None:
    """Let this process see the machine.

    Args:
        machine: The double's state.
        versions: Of ``tensorrt`` and ``tensorrt_rtx``, as far as they are installed there.
        put: Sets an item of a mapping, as ``monkeypatch.setitem`` does.
    """
    from edgevit.runtime import nvidia
    from tests.support.gpu_double.cudart import Cudart
    from tests.support.gpu_double.driver import Driver
    from tests.support.gpu_double.tensorrt import make_library

    put(sys.modules, "cuda", ModuleType("cuda"))
    put(sys.modules, "cuda.bindings", ModuleType("cuda.bindings"))
    put(sys.modules, "cuda.bindings.runtime", Cudart(machine))
    for name, version in versions.items():
        put(sys.modules, name, make_library(machine, name, version))
    put(vars(nvidia), "_load_driver", lambda: Driver(machine))
