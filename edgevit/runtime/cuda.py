"""CUDA's runtime through NVIDIA's own bindings: every status is checked, and what was taken is given back.

The bindings are ``cuda.bindings.runtime`` of the package cuda-bindings; cuda-python before 12.8 called the module
``cuda.cudart``. Both return a tuple whose first item is the status.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevit.core.errors import DeviceError, MissingPackageError
from edgevit.core.packages import install_line

_MODULES = ("cuda.bindings.runtime", "cuda.cudart")

_RESTART = "the GPU's state is lost: start the program again, and build the bundle again if that does not help"
_HINTS = {
    "cudaErrorMemoryAllocation": "close other programs that use the GPU, open fewer streams, or build with a smaller "
    "largest --batch",
    "cudaErrorInsufficientDriver": "update the NVIDIA driver, or install bindings that it serves: "
    'pip install "cuda-bindings<13" for drivers below CUDA 13',
    "cudaErrorNoDevice": "make the GPU visible: see CUDA_VISIBLE_DEVICES, and --gpus of a container",
    "cudaErrorDevicesUnavailable": "another program holds the GPU alone: close it, or set nvidia-smi -c 0",
    "cudaErrorSystemDriverMismatch": "restart the machine after the driver's update",
    "cudaErrorIllegalAddress": _RESTART,
    "cudaErrorLaunchFailure": _RESTART,
    "cudaErrorLaunchTimeout": _RESTART,
    "cudaErrorHardwareStackError": _RESTART,
    "cudaErrorECCUncorrectable": _RESTART,
}
_OTHER_HINT = "check the GPU with nvidia-smi (on a Jetson with tegrastats), and start the program again"


def import_cudart(extra: str = "tensorrt") -> Any:
    """The module of CUDA's runtime, which an ``extra`` of edgevit brings.

    Raises:
        MissingPackageError: It is not installed, or does not load.
    """
    reasons = []
    for name in _MODULES:
        try:
            return importlib.import_module(name)
        except ImportError as exc:
            reasons.append(str(exc))
    raise MissingPackageError(f"cuda-bindings cannot be imported: {reasons[0]}", install_line(extra))


def find_cuda_fault(driver: str, extra: str = "tensorrt") -> str | None:
    """What keeps CUDA's runtime from working with the driver, and what to do; ``None`` where nothing does.

    ``driver`` is the newest CUDA that the driver serves, such as ``12.6``.
    """
    try:
        bindings = importlib.metadata.version("cuda-bindings")
    except importlib.metadata.PackageNotFoundError:
        try:
            import_cudart(extra)  # of a cuda-python that still had the module itself
        except MissingPackageError as exc:
            return f"{exc.message}: {exc.hint}"
        return None
    major, served = bindings.split(".")[0], driver.split(".")[0]
    if int(major) > int(served):
        return (
            f"cuda-bindings {bindings} needs a driver of CUDA {major}, and the driver here serves {driver}: update the "
            f'driver, or pip install "cuda-bindings<{major}"'
        )
    return None


class Cuda:
    """Calls of CUDA's runtime on one GPU, from any thread.

    Args:
        library: What :func:`import_cudart` returns.
        index: Of the GPU, as the driver counts.
    """

    def __init__(self, library: Any, index: int) -> None:
        self.library = library
        self.index = index

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function.

        Returns:
            What it gives besides its status; ``None`` where it gives nothing.

        Raises:
            DeviceError: The status is not success; with the call's name, CUDA's reason and what to do.
        """
        status, *values = getattr(self.library, name)(*arguments)
        if int(status) != 0:
            raise self._explain(name, status)
        return values[0] if values else None

    def _explain(self, name: str, status: Any) -> DeviceError:
        label = _text(self.library.cudaGetErrorName(status))
        reason = _text(self.library.cudaGetErrorString(status))
        return DeviceError(f"{name} failed on GPU {self.index}: {label} ({reason})", _HINTS.get(label, _OTHER_HINT))

    def activate(self) -> None:
        """Make the GPU the calling thread's: CUDA keeps it a thread."""
        self.call("cudaSetDevice", self.index)

    def spin(self) -> None:
        """Let this process's waits for the GPU keep a core busy, but for those on events that sleep.

        CUDA's own choice depends on the number of programs, and on a Jetson on its power mode.
        """
        flags = int(self.call("cudaGetDeviceFlags")) & ~self.library.cudaDeviceScheduleMask
        self.call("cudaSetDeviceFlags", flags | self.library.cudaDeviceScheduleSpin)

    def copy_to_gpu(self, gpu: int, host: int, size: int, stream: Any) -> None:
        """Queue a copy of ``size`` bytes."""
        kind = self.library.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call("cudaMemcpyAsync", gpu, host, size, kind, stream)

    def copy_to_host(self, host: int, gpu: int, size: int, stream: Any) -> None:
        """Queue a copy of ``size`` bytes."""
        kind = self.library.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", host, gpu, size, kind, stream)

    def capture(self, stream: Any, enqueue: Callable[[], None]) -> Any:
        """What ``enqueue`` queues on the stream, as a CUDA graph that can be launched; nothing of it is executed.

        Raises:
            DeviceError: Something in it cannot be recorded. The stream is usable again.
        """
        # other threads may allocate meanwhile, which the global mode would count as a fault
        self.call("cudaStreamBeginCapture", stream, self.library.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            enqueue()
        except BaseException:
            status, graph = self.library.cudaStreamEndCapture(stream)  # ends the capture; the first fault is reported
            if int(status) == 0:
                self.call("cudaGraphDestroy", graph)
            raise
        graph, holdings = self.call("cudaStreamEndCapture", stream), Holdings(self)
        holdings.add(lambda: self.call("cudaGraphDestroy", graph))
        try:
            executable = self.call("cudaGraphInstantiateWithFlags", graph, 0)
        except DeviceError:
            holdings.give_back()
            raise
        failure = holdings.give_back()
        if failure is not None:
            self.call("cudaGraphExecDestroy", executable)
            raise failure
        return executable


class Holdings:
    """What was taken from CUDA and TensorRT, given back in the opposite order, also after an error half-way.

    Args:
        cuda: The GPU to give it back on.
    """

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._frees: list[Callable[[], Any]] = []

    def add(self, free: Callable[[], Any]) -> None:
        """Remember how to give something back."""
        self._frees.append(free)

    def take(self, take: str, free: str, *arguments: Any) -> Any:
        """Call ``take`` of CUDA's runtime; its result goes to ``free`` later."""
        taken = self._cuda.call(take, *arguments)
        self.add(lambda: self._cuda.call(free, taken))
        return taken

    def take_gpu_memory(self, size: int) -> int:
        """Address of ``size`` bytes on the GPU."""
        return int(self.take("cudaMalloc", "cudaFree", size))

    def take_pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> tuple[int, npt.NDArray[Any]]:
        """Address and array of page-locked memory, which the GPU reads and writes without a copy in between."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = int(self.take("cudaMallocHost", "cudaFreeHost", size))
        memory = memoryview((ctypes.c_uint8 * size).from_address(address))
        return address, np.frombuffer(memory, np.uint8).view(dtype).reshape(shape)

    def give_back(self) -> DeviceError | None:
        """Give everything back; twice is allowed.

        Returns:
            The first failure, after everything has been tried.
        """
        first: DeviceError | None = None
        frees, self._frees = self._frees, []
        if frees:
            frees.append(self._cuda.activate)  # runs first: the thread may never have used the GPU
        for free in reversed(frees):
            try:
                free()
            except DeviceError as exc:
                first = first or exc
        return first


def _text(answer: tuple[Any, Any]) -> str:
    text = answer[1]
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
