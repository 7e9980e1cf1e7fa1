"""Session: an opened engine, the same to its caller for every engine library."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt

from edgevit.core.arguments import check_switch
from edgevit.core.engine import Engine, Setting, TensorSpec
from edgevit.core.errors import BundleError, DataError, DeviceError
from edgevit.core.libraries import LIBRARIES
from edgevit.core.report.place import Place
from edgevit.runtime.settings import merge_settings
from edgevit.runtime.submissions import Submissions

if TYPE_CHECKING:
    from concurrent.futures import Future

Answer = TypeVar("Answer")
Outputs: TypeAlias = tuple[npt.NDArray[np.float32], ...]
"""One array for every output of an engine, ``(B, …) float32``."""


class Executor(Protocol):
    """What a library's own part of a session does; several threads may call it at the same time."""

    settings: Mapping[str, Setting]
    streams: int

    def execute(self, batch: npt.NDArray[np.uint8]) -> Outputs:
        """``(B, H, W, 3) uint8``, contiguous and within the engine's range of batches, to all of the engine's outputs.

        Each is ``(B, …) float32``, in the order of ``engine.outputs``; the arrays are the caller's.
        """

    def close(self) -> None:
        """Free the engine; waits for calls under way."""


class Runtime(Protocol):
    """What the module of a library that opens its engines provides, or its object."""

    def open_executor(
        self, engine: Engine, settings: Mapping[str, Setting], digests: Mapping[str, str] | None = None
    ) -> Executor:
        """Load the engine's files with these settings; with their ``digests``, what is compiled may be kept."""

    def list_devices(self) -> tuple[str, ...]:
        """Devices that the library finds on this machine."""

    def read_versions(self) -> dict[str, str]:
        """The library's versions, by its name."""

    def find_mismatch(self, engine: Engine) -> str | None:
        """Why this machine cannot open the engine with its settings, with both values; ``None`` where it can."""

    def find_differences(self, engine: Engine) -> tuple[str, ...]:
        """What differs from where the engine was measured, though it opens."""

    def describe_place(self, engine: Engine, settings: Mapping[str, Setting]) -> Place:
        """Where the engine answers on this machine, opened with the settings that its session tells."""


class Session:
    """An opened engine; a context manager.

    Attributes:
        inputs: One: ``(B, H, W, 3) uint8``.
        outputs: ``(B, …) float32`` each: one, or one for every level of features.
        batch: Least, best and largest batch that the engine takes at a time.
        settings: As used, with what was chosen on this device.
        streams: Callers at the same time that the engine computes side by side; further ones wait.
        queue_size: Most batches that :meth:`submit` takes in and that are not done.

    Args:
        engine: What is opened.
        executor: The library's part.
        queue_size: As above; by default two a thread, of which there is one more than streams.
    """

    def __init__(self, engine: Engine, executor: Executor, queue_size: int | None = None) -> None:
        self.inputs: tuple[TensorSpec, ...] = engine.inputs
        self.outputs: tuple[TensorSpec, ...] = engine.outputs
        self.batch = engine.batch
        self.settings: Mapping[str, Setting] = executor.settings
        self.streams: int = executor.streams
        self._executor: Executor | None = executor
        self.queue_size: int = queue_size or 2 * (self.streams + 1)
        self._submissions: Submissions | None = None
        self._lock = threading.Lock()
        self._closing = False

    def run(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The one output of a batch, such as logits; safe to call from several threads.

        Any number of images is taken: more than the engine's largest batch are computed one batch after the other, and
        a batch below its least is filled with copies of the last image, whose results are dropped.

        Args:
            batch: ``(B, H, W, 3) uint8``, RGB, as :meth:`Preprocess.apply` gives them; B at least 1.

        Returns:
            ``(B, K) float32``.

        Raises:
            DataError: The batch has another shape or type, or the engine has several outputs.
            DeviceError: The session is closed, or the engine failed.
        """
        if len(self.outputs) != 1:
            names = ", ".join(spec.name for spec in self.outputs)
            raise DataError(
                f"the engine has {len(self.outputs)} outputs: {names}", "ask for them with run_outputs", code="argument"
            )
        return self.run_outputs(batch)[0]

    def run_outputs(self, batch: npt.NDArray[np.uint8]) -> Outputs:
        """All outputs of a batch, in the order of ``outputs``; otherwise as :meth:`run`."""
        executor = self._executor
        if executor is None:
            raise _closed()
        self._check(batch)
        least, _, largest = self.batch
        parts = [_execute(executor, batch[i : i + largest], least) for i in range(0, len(batch), largest)]
        return parts[0] if len(parts) == 1 else tuple(np.concatenate(values) for values in zip(*parts, strict=True))

    def submit(self, batch: npt.NDArray[np.uint8], *, block: bool = True) -> Future[Outputs]:
        """Have :meth:`run_outputs` done in the background.

        Args:
            batch: As :meth:`run` takes it; it is not copied, so it must not change until it is answered.
            block: Wait for room in the queue.

        Raises:
            QueueFullError: ``queue_size`` batches are on their way, and ``block`` is false.
            DeviceError: The session is closed.
        """
        return self.enqueue(functools.partial(self.run_outputs, batch), block=block)

    def enqueue(self, work: Callable[[], Answer], *, block: bool = True) -> Future[Answer]:
        """As :meth:`submit`, with any work that runs batches in this session."""
        check_switch(block, "block")
        with self._lock:
            if self._closing:
                raise _closed()
            if self._submissions is None:
                # one more than streams: it prepares what the engine computes next
                self._submissions = Submissions(self.streams + 1, self.queue_size)
            submissions = self._submissions
        return submissions.submit(work, block=block)

    def warm_up(self, n: int = 3) -> None:
        """Run ``n`` black batches of the best size a stream, so that the next call is as fast as later ones.

        Raises:
            DataError: ``n`` is no whole number from 1.
            DeviceError: The session is closed, or the engine failed.
        """
        if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
            raise DataError(f"n = {n!r} is not a whole number from 1", "give the number of calls", code="argument")
        black = np.zeros((self.batch[1], *map(int, self.inputs[0].shape[1:])), np.uint8)
        for _ in range(n * self.streams):  # which the executors use in turn
            self.run_outputs(black)

    def _check(self, batch: Any) -> None:
        spec = self.inputs[0]
        wanted = tuple(spec.shape[1:])
        pixels = isinstance(batch, np.ndarray) and batch.dtype == np.uint8 and batch.ndim == 4
        if pixels and batch.shape[1:] == wanted and len(batch) > 0:
            return
        shape = ", ".join(str(d) for d in wanted)
        found = f"shape {batch.shape} and type {batch.dtype}" if isinstance(batch, np.ndarray) else type(batch).__name__
        single = isinstance(batch, np.ndarray) and batch.shape == wanted
        raise DataError(
            f"the engine takes an array of shape (images, {shape}) and type {spec.dtype}, not {found}",
            "give one image as image[None]" if single else "prepare each image with the bundle's preprocess.apply",
            code="argument",
        )

    def close(self) -> None:
        """Free the engine, after the calls under way; what was submitted and has not begun ends with an error.

        Closing twice is allowed.
        """
        with self._lock:
            self._closing, submissions = True, self._submissions
        if submissions is not None:
            submissions.close()  # whose work still needs the engine
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _closed() -> DeviceError:
    return DeviceError("the session is closed", "open the engine again")


def _execute(executor: Executor, part: npt.NDArray[np.uint8], least: int) -> Outputs:
    count = len(part)
    if count < least:
        part = np.concatenate([part, np.repeat(part[-1:], least - count, axis=0)])
    return tuple(values[:count] for values in executor.execute(np.ascontiguousarray(part)))


def get_runtime(backend: str) -> Runtime:
    """The module that opens a library's engines.

    Raises:
        BundleError: This version of edgevit opens no such engines.
    """
    if backend not in LIBRARIES:
        raise BundleError(
            f"this version of edgevit opens no {backend} engines",
            f"it opens those of {', '.join(LIBRARIES)}",
            code="library",
        )
    module, _, name = LIBRARIES[backend].runtime.partition(":")
    runtime = importlib.import_module(module)
    return cast(Runtime, getattr(runtime, name) if name else runtime)


def open_engine(
    engine: Engine,
    settings: Mapping[str, Setting] | None = None,
    *,
    digests: Mapping[str, str] | None = None,
    queue_size: int | None = None,
) -> Session:
    """Load an engine onto its device.

    Args:
        engine: What ``compile_engine`` left.
        settings: Override the engine's own; see ``edgevit/runtime/settings.py``.
        digests: SHA-256 of each of the engine's files, which the caller has just checked: what the library compiles
            from them may then be kept in the user's cache, and is taken from there.
        queue_size: Most batches that :meth:`Session.submit` takes in and that are not done; by default two a thread,
            of which there is one more than streams.

    Raises:
        MissingPackageError: The engine library is not installed.
        DataError: ``queue_size`` is below 1.
        DeviceError: The device is not here, a setting is not valid, or the library refused the engine.
    """
    whole = isinstance(queue_size, int | np.integer) and not isinstance(queue_size, bool)
    if queue_size is not None and (not whole or queue_size < 1):
        message = f"queue_size = {queue_size!r} is not a whole number from 1"
        raise DataError(message, "give another, or none", code="argument")
    runtime = get_runtime(engine.backend)
    engine = dataclasses.replace(engine, settings=merge_settings(engine.settings, settings))
    mismatch = runtime.find_mismatch(engine)
    if mismatch:
        raise DeviceError(mismatch, "open the engine on the device that it was compiled for, or compile it here")
    return Session(engine, runtime.open_executor(engine, engine.settings, digests), queue_size)
