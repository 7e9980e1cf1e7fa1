"""One caller's part of a GPU session: an execution context, a CUDA stream, and buffers for the largest batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgevit.engine import TensorSpec
from edgevit.errors import DeviceError
from edgevit.runtime.cuda import Cuda, Holdings
from edgevit.runtime.tensorrt_plan import Plan


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
        self._input, self._output = plan.engine.inputs[0], plan.engine.outputs[0]
        library = cuda.library
        self._stream = holdings.take("cudaStreamCreateWithFlags", "cudaStreamDestroy", library.cudaStreamNonBlocking)
        sleep = library.cudaEventBlockingSync if wait == "block" else 0
        self._done = holdings.take(
            "cudaEventCreateWithFlags", "cudaEventDestroy", library.cudaEventDisableTiming | sleep
        )
        largest = plan.engine.batch[2]
        self._pixel_bytes, self._logit_bytes = (_count_bytes(spec) for spec in (self._input, self._output))
        self._host_pixels, self._pixels = holdings.take_pinned(_fill(self._input, largest), np.uint8)
        self._host_logits, self._logits = holdings.take_pinned(_fill(self._output, largest), np.float32)
        self._gpu_pixels = holdings.take_gpu_memory(largest * self._pixel_bytes)
        self._gpu_logits = holdings.take_gpu_memory(largest * self._logit_bytes)
        self._context = plan.make_context()
        holdings.add(self._let_go)
        for name, address in ((self._input.name, self._gpu_pixels), (self._output.name, self._gpu_logits)):
            self._ask("set_tensor_address", name, address)
        self._profile = 0  # a new context's
        self._size = self._calls = 0
        self._graph: Any = None
        self._demanded = cuda_graph is True
        self.cuda_graph = cuda_graph is not False

    def run(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See :class:`edgevit.runtime.session.Executor`."""
        self._cuda.activate()
        size = len(batch)
        self._pixels[:size] = batch
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
        return self._logits[:size].copy()

    def _reshape(self, size: int) -> None:
        """Get ready for another size of batch."""
        self._size = self._calls = 0  # should one of the next steps fail, the next call begins here again
        self._drop_graph()
        profile = self._plan.choose_profile(size).index
        if profile != self._profile:
            self._ask("set_optimization_profile_async", profile, int(self._stream))
            self._profile = profile
        self._ask("set_input_shape", self._input.name, _fill(self._input, size))
        self._size = size

    def _enqueue(self) -> None:
        cuda, stream = self._cuda, self._stream
        cuda.copy_to_gpu(self._gpu_pixels, self._host_pixels, self._size * self._pixel_bytes, stream)
        self._ask("execute_async_v3", int(stream))
        cuda.copy_to_host(self._host_logits, self._gpu_logits, self._size * self._logit_bytes, stream)

    def _capture(self) -> None:
        try:
            # TensorRT-RTX says so where a part of the engine is computed by the CPU in between
            if not getattr(self._context, "is_stream_capturable", lambda stream: True)(int(self._stream)):
                raise DeviceError(f"{self._plan.name} cannot record this engine", "leave cuda_graph out of the settings")
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

    def _let_go(self) -> None:
        """Give back the graph and the context, before the stream and the buffers that they use."""
        try:
            self._cuda.call("cudaStreamSynchronize", self._stream)  # after a failure something may still be under way
            self._drop_graph()
        finally:
            self._context = None


def _fill(spec: TensorSpec, size: int) -> tuple[int, ...]:
    """The shape with ``size`` images; the other dimensions are numbers."""
    return (size, *(int(d) for d in spec.shape[1:]))


def _count_bytes(spec: TensorSpec) -> int:
    """Of one image's part."""
    return int(np.prod(_fill(spec, 1))) * np.dtype(spec.dtype).itemsize
