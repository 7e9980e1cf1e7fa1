"""A bundle that lies open on another machine: pixels go there, answers come back."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgevit.core import schema
from edgevit.core.errors import DeviceError
from edgevit.core.progress import Progress, ignore_progress
from edgevit.remote.job import make_job, persist, run_job
from edgevit.remote.ssh import Connection, Exchange
from edgevit.remote.ssh_errors import OutOfReachError
from edgevit.remote.wheel import pack_wheel
from edgevit.runtime.bundle import Bundle, load_bundle, verify_bundle
from edgevit.runtime.canary import CanaryCheck, Check
from edgevit.runtime.pack_file import lend_folder
from edgevit.runtime.session import Outputs

_SERVE = ("-m", "edgevit.remote.serve")


class RemotePredictor:
    """What :class:`edgevit.runtime.Predictor` is for images of an evaluation, on a device.

    Attributes:
        bundle: The bundle here.
        canary: Whether its engine answers on the device as where it was judged.
        manifest: The bundle's.
        preprocess: Images are prepared here, as the device prepares them.
    """

    def __init__(
        self, connection: Connection, job: str, bundle: Bundle, canary: CanaryCheck, log: Callable[[str], None]
    ) -> None:
        self.bundle, self.canary = bundle, canary
        self.manifest, self.preprocess = bundle.manifest, bundle.manifest.preprocess
        self._connection, self._job, self._log = connection, job, log
        self._stack = contextlib.ExitStack()
        self._exchange: Exchange | None = None

    def run_outputs(self, batch: npt.NDArray[np.uint8]) -> Outputs:
        """All outputs for ``(B, H, W, 3) uint8``, computed on the device; a lost connection is made again.

        Raises:
            DeviceError: The device is out of reach, or its engine failed.
        """

        def ask() -> Outputs:
            try:
                return self._ask(batch)
            except OutOfReachError:
                self.close()
                raise

        return persist(ask, self._log)

    def _ask(self, batch: npt.NDArray[np.uint8]) -> Outputs:
        if self._exchange is None:
            request = {"job": self._job, "arguments": [*_SERVE, "--check", "never", "input/bundle"]}
            self._exchange = self._stack.enter_context(self._connection.call("serve", request))
            while "ready" not in self._exchange.receive():
                self._log("waiting: another edgevit is at work on this device")
        self._exchange.send_line({"shape": batch.shape})
        self._exchange.send(np.ascontiguousarray(batch).tobytes())
        outputs = []
        for shape in self._exchange.receive()["shapes"]:
            data = b""
            while len(data) < 4 * int(np.prod(shape)):
                data += self._exchange.read(4 * int(np.prod(shape)) - len(data))
            outputs.append(np.frombuffer(data, "<f4").reshape(shape).astype(np.float32))
        return tuple(outputs)

    def close(self) -> None:
        """End the connection; the next question makes another."""
        self._stack.close()
        self._exchange = None


@contextlib.contextmanager
def open_on(
    host: str,
    path: str | Path,
    *,
    check: Check = "auto",
    public_key: str | os.PathLike[str] | None = None,
    log: Callable[[str], None] = lambda line: None,
    progress: Progress = ignore_progress,
) -> Iterator[RemotePredictor]:
    """Copy a finished bundle to a device and open it there.

    With ``public_key``, what that key did not sign is not sent.

    Raises:
        BundleError: It is damaged, not signed with that key or portable, or does not fit the device.
        DeviceError: The device is out of reach, is not the right one or lacks something, cannot open the engine, or its
            engine does not answer there as where it was judged.
    """
    connection = Connection(host)
    arguments = (*_SERVE, "--open-only", "--check", check, "input/bundle")
    with (
        lend_folder(path, public_key) as source,
        pack_wheel() as wheel,
        tempfile.TemporaryDirectory(prefix="edgevit-") as folder,
    ):
        bundle = verify_bundle(load_bundle(source, public_key=public_key))
        job = make_job(connection, "answer", arguments, {"bundle": bundle}, wheel, log)
        said = run_job(connection, job, Path(folder), log=log, keep=True, progress=progress)
    canary = schema.from_data(CanaryCheck, said["canary"], f"the answer of {host}", DeviceError)
    predictor = RemotePredictor(connection, job.name, bundle, canary, log)
    try:
        yield predictor
    finally:
        predictor.close()
        with contextlib.suppress(DeviceError):
            connection.ask("remove", job=job.name)
