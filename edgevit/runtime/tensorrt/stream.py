"""One caller's part of a GPU session: an execution context, a CUDA stream, and buffers for the largest batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgevit.core.engine import TensorSpec
from edgevit.core.errors import DeviceError
from edgevit.runtime.cuda import Cuda, Holdings
from edgevit.runtime.session import Outputs
from edgevit.runtime.tensorrt.plan import Plan


class _Buffer(NamedTuple):
    """An input or output on both sides; ``array`` is the host's page-locked memory, with room for the largest batch."""

    name: str
    array: npt.NDArray[Any]
    host: int
    gpu: int
    image_bytes: int


class Stream:
    """Computes one batch at a time; one thread at a time may call it.

    A batch of a size that was computed before, without another in between, is launched as a CUDA graph: copies and
    kernels were recorded once, and are launched by one call. The first batch of a size runs unrecorded, because
    TensorRT prepares for a new shape then.

    Args:
        cuda: The GPU.
        plan: The engine.
        holdings: Takes everything that is allocated here.
        cuda_graph: Whether graphs are used; ``None``: where the engine allows it.
        wait: ``spin`` or ``block``; see ``edgevit/runtime/settings.py``.

    Attributes:
        cuda_graph: Whether graphs are used, as found out by the first batches.
    """

    def __init__(self, cuda: Cuda, plan: Plan, holdings: Holdings, *, cuda_graph: bool | None, wait: str) -> None:
        self._cuda, self._plan = cuda, plan
        self._demanded, self.cuda_graph = cuda_graph is True, cuda_graph is not False
        self._graph: Any = None
        self._size = self._calls = 0
        library = cuda.library
        self._stream = holdings.take("cudaStreamCreateWithFlags", "cudaStreamDestroy", library.cudaStreamNonBlocking)
        sleep = library.cudaEventBlockingSync if wait == "block" else 0
        self._done = holdings.take(
            "cudaEventCreateWithFlags", "cudaEventDestroy", library.cudaEventDisableTiming | sleep
        )
        largest = plan.engine.batch[2]
        self._input = _take_buffer(plan.engine.inputs[0], largest, holdings)
        self._outputs = [_take_buffer(spec, largest, holdings) for spec in plan.engine.outputs]
        self._context = plan.make_context()
        # backwards: a failed call may have left work under way, and graphs use the context and the buffers
        holdings.add(self._drop_context)
        holdings.add(self._drop_graph)
        holdings.add(lambda: cuda.call("cudaStreamSynchronize", self._stream))
        for buffer in (self._input, *self._outputs):
            self._ask("set_tensor_address", buffer.name, buffer.gpu)
        # the first context of an engine has profile 0, later ones may have none yet
        self._profile = int(self._context.active_optimization_profile)

    def run(self, batch: npt.NDArray[np.uint8]) -> Outputs:
        """See :class:`edgevit.runtime.session.Executor`."""
        self._cuda.activate()
        size = len(batch)
        self._input.array[:size] = batch
        if size != self._size:
            self._reshape(size)
        elif self._graph is None and self.cuda_graph and self._calls:
            self._capture()
        if self._graph is not None:
            self._cuda.call("cudaGraphLaunch", self._graph, self._stream)
        else:
            self._enqueue()
        self._cuda.call("cudaEventRecord", self._done, self._stream)
        self._cuda.call("cudaEventSynchronize", self._done)
        self._calls += 1
        return tuple(buffer.array[:size].copy() for buffer in self._outputs)

    def _reshape(self, size: int) -> None:
        """Get ready for another size of batch."""
        self._size = self._calls = 0  # should one of the next steps fail, the next call begins here again
        self._drop_graph()
        profile = self._plan.choose_profile(size).number
        if profile != self._profile:
            self._ask("set_optimization_profile_async", profile, int(self._stream))
            self._profile = profile
        self._ask("set_input_shape", self._input.name, (size, *self._input.array.shape[1:]))
        self._size = size

    def _enqueue(self) -> None:
        cuda, stream = self._cuda, self._stream
        cuda.copy_to_gpu(self._input.gpu, self._input.host, self._size * self._input.image_bytes, stream)
        self._ask("execute_async_v3", int(stream))
        for buffer in self._outputs:
            cuda.copy_to_host(buffer.host, buffer.gpu, self._size * buffer.image_bytes, stream)

    def _capture(self) -> None:
        try:
            # TensorRT-RTX says so where a part of the engine is computed by the CPU in between
            if not getattr(self._context, "is_stream_capturable", lambda stream: True)(int(self._stream)):
                raise DeviceError(
                    f"{self._plan.name} cannot record this engine", "leave cuda_graph out of the settings"
                )
            self._graph = self._cuda.capture(self._stream, self._enqueue)
        except DeviceError:
            if self._demanded:
                raise
            self.cuda_graph = False  # said in the session's settings

    def _ask(self, call: str, *arguments: Any) -> None:
        """Call the context, which says by ``False`` that it failed, and why in its log."""
        with self._plan.log.listen() as said:
            succeeded = getattr(self._context, call)(*arguments)
        if not succeeded:
            raise DeviceError(
                f"{self._plan.name} failed in {call}{said.describe()}",
                "close other programs that use the GPU; if that does not help, build the bundle again on this machine",
            )

    def _drop_graph(self) -> None:
        graph, self._graph = self._graph, None
        if graph is not None:
            self._cuda.call("cudaGraphExecDestroy", graph)

    def _drop_context(self) -> None:
        self._context = None


def _take_buffer(spec: TensorSpec, largest: int, holdings: Holdings) -> _Buffer:
    host, array = holdings.take_pinned((largest, *(int(d) for d in spec.shape[1:])), spec.dtype)
    return _Buffer(spec.name, array, host, holdings.take_gpu_memory(array.nbytes), array.nbytes // largest)
