"""The double of ``cuda.bindings.runtime``: what edgevit calls of it, with the real names and numbers."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from typing import Any

from tests.support.gpu_double import Handle, Machine, Work, read, write


class Status(enum.IntEnum):
    """``cudaError_t``."""

    cudaSuccess = 0  # noqa: N815
    cudaErrorInvalidValue = 1  # noqa: N815
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorInvalidResourceHandle = 400  # noqa: N815
    cudaErrorIllegalAddress = 700  # noqa: N815
    cudaErrorStreamCaptureUnsupported = 900  # noqa: N815
    cudaErrorStreamCaptureInvalidated = 901  # noqa: N815


class MemcpyKind(enum.IntEnum):
    """``cudaMemcpyKind``."""

    cudaMemcpyHostToDevice = 1  # noqa: N815
    cudaMemcpyDeviceToHost = 2  # noqa: N815


class CaptureMode(enum.IntEnum):
    """``cudaStreamCaptureMode``."""

    cudaStreamCaptureModeThreadLocal = 1  # noqa: N815


OK = Status.cudaSuccess
Answer = tuple[Status, Any]


def _fallible(function: Callable[..., Any]) -> Callable[..., Any]:
    """A call that the machine can be told to let fail for want of memory."""

    @functools.wraps(function)
    def call(self: Cudart, *arguments: Any) -> Any:
        nothing = () if function.__name__ in GIVES_NOTHING else (None,)
        if self._machine.sticky is not None:
            return (Status(self._machine.sticky), *nothing)
        if self._machine.fails(function.__name__):
            return (Status.cudaErrorMemoryAllocation, *nothing)
        return function(self, *arguments)

    return call


GIVES_NOTHING = {
    "cudaEventDestroy",
    "cudaEventRecord",
    "cudaEventSynchronize",
    "cudaFree",
    "cudaFreeHost",
    "cudaGraphDestroy",
    "cudaGraphExecDestroy",
    "cudaGraphLaunch",
    "cudaMemcpyAsync",
    "cudaSetDevice",
    "cudaSetDeviceFlags",
    "cudaStreamBeginCapture",
    "cudaStreamDestroy",
    "cudaStreamSynchronize",
}
"""Of these the real module returns only the status."""


class Cudart:
    """The module, as an object."""

    cudaError_t = Status  # noqa: N815
    cudaMemcpyKind = MemcpyKind  # noqa: N815
    cudaStreamCaptureMode = CaptureMode  # noqa: N815
    cudaDeviceScheduleMask = 7  # noqa: N815
    cudaDeviceScheduleSpin = 1  # noqa: N815
    cudaEventBlockingSync = 1  # noqa: N815
    cudaEventDisableTiming = 2  # noqa: N815
    cudaStreamNonBlocking = 1  # noqa: N815

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def cudaGetErrorName(self, error: Status) -> Answer:  # noqa: N802
        return OK, Status(error).name.encode()

    def cudaGetErrorString(self, error: Status) -> Answer:  # noqa: N802
        text = {Status.cudaErrorMemoryAllocation: b"out of memory"}
        return OK, text.get(Status(error), b"a fault of the double")

    @_fallible
    def cudaSetDevice(self, device: int) -> Any:  # noqa: N802
        if device != self._machine.gpu.index:
            return (Status.cudaErrorInvalidValue,)
        self._machine.device = device
        return (OK,)

    @_fallible
    def cudaGetDeviceFlags(self) -> Answer:  # noqa: N802
        return OK, self._machine.flags

    @_fallible
    def cudaSetDeviceFlags(self, flags: int) -> Any:  # noqa: N802
        self._machine.flags = flags
        return (OK,)

    @_fallible
    def cudaMalloc(self, size: int) -> Answer:  # noqa: N802
        return self._allocate("gpu", size)

    @_fallible
    def cudaMallocHost(self, size: int) -> Answer:  # noqa: N802
        return self._allocate("pinned", size)

    def _allocate(self, kind: str, size: int) -> Answer:
        if any(handle.capture is not None for handle in self._machine.handles.values()):
            return Status.cudaErrorStreamCaptureUnsupported, None
        address = self._machine.take_memory(kind, size)
        return (OK, address) if address is not None else (Status.cudaErrorMemoryAllocation, None)

    @_fallible
    def cudaFree(self, devPtr: int) -> Any:  # noqa: N802, N803
        return self._release(devPtr, "gpu")

    @_fallible
    def cudaFreeHost(self, ptr: int) -> Any:  # noqa: N802
        return self._release(ptr, "pinned")

    def _release(self, address: int, kind: str) -> Any:
        item = self._machine.held.get(int(address))
        if item is None or item.kind != kind:
            return (Status.cudaErrorInvalidValue,)
        streams = [handle for handle in self._machine.handles.values() if handle.kind == "stream"]
        assert not any(
            address <= used < address + item.size for stream in streams for work in stream.work for used in work.memory
        ), "memory is given back while work on it is under way"
        del self._machine.held[int(address)]
        return (OK,)

    @_fallible
    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: MemcpyKind, stream: Handle) -> Any:  # noqa: N802
        sides = {
            MemcpyKind.cudaMemcpyHostToDevice: ("gpu", "pinned"),
            MemcpyKind.cudaMemcpyDeviceToHost: ("pinned", "gpu"),
        }
        found = tuple(self._machine.find_kind(address, count) for address in (dst, src))
        if found != sides[kind]:
            return (Status.cudaErrorInvalidValue,)
        return (enqueue(stream, Work(lambda: write(dst, read(src, count)), (dst, src))),)

    @_fallible
    def cudaStreamCreateWithFlags(self, flags: int) -> Answer:  # noqa: N802
        assert flags == self.cudaStreamNonBlocking
        return OK, self._machine.take_handle("stream")

    @_fallible
    def cudaStreamSynchronize(self, stream: Handle) -> Any:  # noqa: N802
        if stream.capture is not None:
            stream.broken = True
            return (Status.cudaErrorStreamCaptureUnsupported,)
        return (run(stream),)

    @_fallible
    def cudaStreamBeginCapture(self, stream: Handle, mode: CaptureMode) -> Any:  # noqa: N802
        assert mode == CaptureMode.cudaStreamCaptureModeThreadLocal
        assert stream.capture is None
        stream.capture, stream.broken = [], False
        return (OK,)

    def cudaStreamEndCapture(self, stream: Handle) -> Answer:  # noqa: N802
        recorded, stream.capture = stream.capture, None
        if self._machine.sticky is not None:
            return Status(self._machine.sticky), None
        if self._machine.fails("cudaStreamEndCapture") or stream.broken or recorded is None:
            return Status.cudaErrorStreamCaptureInvalidated, None
        graph = self._machine.take_handle("graph")
        graph.work = recorded
        return OK, graph

    @_fallible
    def cudaGraphInstantiateWithFlags(self, graph: Handle, flags: int) -> Answer:  # noqa: N802
        executable = self._machine.take_handle("graph exec")
        executable.work = list(graph.work)
        return OK, executable

    @_fallible
    def cudaGraphLaunch(self, graphExec: Handle, stream: Handle) -> Any:  # noqa: N802, N803
        if graphExec.number not in self._machine.handles:
            return (Status.cudaErrorInvalidResourceHandle,)
        for work in graphExec.work:
            enqueue(stream, work)
        return (OK,)

    @_fallible
    def cudaEventCreateWithFlags(self, flags: int) -> Answer:  # noqa: N802
        assert flags & self.cudaEventDisableTiming
        self._machine.sleeps = bool(flags & self.cudaEventBlockingSync)
        return OK, self._machine.take_handle("event")

    @_fallible
    def cudaEventRecord(self, event: Handle, stream: Handle) -> Any:  # noqa: N802
        event.stream = stream
        return (OK,)

    @_fallible
    def cudaEventSynchronize(self, event: Handle) -> Any:  # noqa: N802
        assert event.stream is not None, "an event that was not recorded"
        return (run(event.stream),)

    @_fallible
    def cudaStreamDestroy(self, stream: Handle) -> Any:  # noqa: N802
        return self._destroy(stream, "stream")

    @_fallible
    def cudaEventDestroy(self, event: Handle) -> Any:  # noqa: N802
        return self._destroy(event, "event")

    @_fallible
    def cudaGraphDestroy(self, graph: Handle) -> Any:  # noqa: N802
        return self._destroy(graph, "graph")

    @_fallible
    def cudaGraphExecDestroy(self, graphExec: Handle) -> Any:  # noqa: N802, N803
        return self._destroy(graphExec, "graph exec")

    def _destroy(self, handle: Handle, kind: str) -> Any:
        if self._machine.handles.get(handle.number) is not handle or handle.kind != kind:
            return (Status.cudaErrorInvalidResourceHandle,)
        del self._machine.handles[handle.number], self._machine.held[handle.number]
        return (OK,)


def enqueue(stream: Handle, work: Work) -> Status:
    """Put work on a stream, or into the graph that it records."""
    (stream.work if stream.capture is None else stream.capture).append(work)
    return OK


def run(stream: Handle) -> Status:
    """Do what was queued."""
    work, stream.work = stream.work, []
    for item in work:
        item.do()
    return OK
