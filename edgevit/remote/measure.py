"""``bench`` on another machine."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from edgevit.core import schema
from edgevit.core.errors import DeviceError
from edgevit.core.progress import Progress, ignore_progress
from edgevit.measure.bench import Comparison
from edgevit.remote.job import make_job, run_job
from edgevit.remote.ssh import Connection
from edgevit.remote.wheel import pack_wheel
from edgevit.runtime.bundle import load_bundle, verify_bundle
from edgevit.runtime.pack_file import lend_folder


def bench_on(
    host: str,
    bundles: Sequence[str | Path],
    options: Sequence[str],
    *,
    public_key: str | os.PathLike[str] | None = None,
    log: Callable[[str], None] = lambda line: None,
    progress: Progress = ignore_progress,
) -> Comparison:
    """Time finished bundles on a device over ssh; see :func:`edgevit.measure.bench.bench_bundles`, which runs there.

    ``options`` are those of ``edgevit bench``; ``log`` is told every line that the device says. With
    ``public_key``, what that key did not sign is not sent.

    Raises:
        BundleError: A bundle is damaged, not signed with that key or portable.
        DeviceError: As :func:`finish_on`.
    """
    connection = Connection(host)
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(lend_folder(bundle, public_key)) for bundle in bundles]
        opened = {
            str(index): verify_bundle(load_bundle(folder, public_key=public_key))
            for index, folder in enumerate(folders)
        }
        arguments = ("-m", "edgevit", "bench", *(f"input/{name}" for name in opened), *options, "--json")
        wheel = stack.enter_context(pack_wheel())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgevit-"))
        job = make_job(connection, "bench", arguments, opened, wheel, log)
        data = run_job(connection, job, Path(folder), log=log, progress=progress)
    comparison = schema.from_data(Comparison, data, f"the answer of {host}", DeviceError)
    rows = [dataclasses.replace(row, bundle=str(b)) for row, b in zip(comparison.bundles, bundles, strict=True)]
    return dataclasses.replace(comparison, bundles=tuple(rows))
