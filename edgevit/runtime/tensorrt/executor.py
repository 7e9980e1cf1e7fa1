"""Running a TensorRT or TensorRT-RTX plan: several streams, from any thread."""

from __future__ import annotations

import queue
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevit.core.engine import Engine, Setting
from edgevit.core.errors import DeviceError
from edgevit.core.report.machine import Gpu
from edgevit.runtime.cuda import Cuda, Holdings
from edgevit.runtime.session import Outputs
from edgevit.runtime.settings import OpenSettings
from edgevit.runtime.tensorrt.plan import Plan
from edgevit.runtime.tensorrt.stream import Stream

_THROUGHPUT_STREAMS = 2
"""One batch is copied while another is computed; more contexts cost memory, and a GPU computes one batch at a time."""


class TensorRTExecutor:
    """A plan with one execution context a stream.

    Args:
        library: ``tensorrt`` or ``tensorrt_rtx``.
        cudart: See :func:`edgevit.runtime.cuda.import_cudart`.
        engine: What to open.
        settings: How.
        gpu: Where.

    Raises:
        DeviceError: The plan is not read, or memory is short; nothing is left allocated.
    """

    def __init__(self, library: Any, cudart: Any, engine: Engine, settings: OpenSettings, gpu: Gpu) -> None:
        throughput = settings.hint == "throughput"
        self.streams = settings.streams or (_THROUGHPUT_STREAMS if throughput else 1)
        wait = settings.wait or ("block" if throughput else "spin")
        cuda = Cuda(cudart, gpu.index)
        holdings = Holdings(cuda)
        try:
            cuda.activate()
            if wait == "spin":
                cuda.spin()
            plan = Plan(library, engine, gpu.name)
            holdings.add(plan.close)
            streams = [
                Stream(cuda, plan, holdings, cuda_graph=settings.cuda_graph, wait=wait) for _ in range(self.streams)
            ]
            for stream in streams:
                _warm_up(stream, engine)
            plan.jit.save()  # what a killed process would have compiled in vain
        except BaseException:
            holdings.give_back()  # the error under way says more than one of giving back
            raise
        self._settings: dict[str, Setting] = {
            "hint": settings.hint,
            "streams": self.streams,
            "cuda_graph": all(stream.cuda_graph for stream in streams),
            "wait": wait,
            "transfers": settings.transfers,
        }
        self.settings: Mapping[str, Setting] = self._settings
        self._failed = False
        # a session that is never closed is freed with its last reference, and before the interpreter ends
        self._finalizer = weakref.finalize(self, holdings.give_back)
        self._free: queue.SimpleQueue[Stream | None] = queue.SimpleQueue()
        for stream in streams:
            self._free.put(stream)

    def execute(self, batch: npt.NDArray[np.uint8]) -> Outputs:
        """See :class:`edgevit.runtime.session.Executor`."""
        stream = self._free.get()
        if stream is None:
            self._free.put(None)  # the next waiting caller is told as well
            raise DeviceError("the session was closed while a call waited", "open the engine again")
        try:
            outputs = stream.run(batch)
            if not stream.cuda_graph:
                self._settings["cuda_graph"] = False
            return outputs
        except DeviceError:
            self._failed = True
            raise
        finally:
            self._free.put(stream)

    def close(self) -> None:
        """See :class:`edgevit.runtime.session.Executor`.

        Raises:
            DeviceError: CUDA refused to take something back, though no call had failed before.
        """
        for _ in range(self.streams):
            self._free.get()
        self._free.put(None)
        failure = self._finalizer()
        if failure is not None and not self._failed:
            raise failure


def _warm_up(stream: Stream, engine: Engine) -> None:
    """The usual batch's kernels are loaded and its graph is recorded here, and not in the app's first answers."""
    shape = (engine.batch[1], *(int(d) for d in engine.inputs[0].shape[1:]))
    for _ in range(2):
        stream.run(np.zeros(shape, np.uint8))
