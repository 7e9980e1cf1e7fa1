"""``bench`` on another machine."""

from __future__ import annotations

import dataclasses
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edgevit.core import schema
from edgevit.core.errors import DeviceError
from edgevit.core.libraries import LIBRARIES
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.target import use_library
from edgevit.measure.bench import Comparison
from edgevit.remote.job import Job, list_bundle, run_job
from edgevit.remote.probe import estimate_environment, probe_device
from edgevit.remote.ssh import Connection
from edgevit.remote.transfer import hash_job
from edgevit.remote.wheel import pack_wheel
from edgevit.runtime.bundle import verify_bundle


def bench_on(
    host: str,
    bundles: Sequence[str | Path],
    options: Sequence[str],
    *,
    log: Callable[[str], None] = lambda line: None,
    progress: Progress = ignore_progress,
) -> Comparison:
    """Time finished bundles on a device over ssh; see :func:`edgevit.measure.bench.bench_bundles`, which runs there.

    Args:
        host: What ``ssh`` takes.
        bundles: Folders here.
        options: Of ``edgevit bench``.
        log: Told every line that the device says.
        progress: Told while files are sent.

    Raises:
        BundleError: A bundle is damaged or portable.
        DeviceError: As :func:`finish_on`.
    """
    connection = Connection(host)
    opened = [verify_bundle(bundle) for bundle in bundles]
    # an engine may be of one of the target's further libraries; asking for it refuses a portable bundle
    targets = [use_library(bundle.manifest.target, bundle.engine.backend) for bundle in opened]
    for target in targets:
        found = probe_device(connection, target)
    log(found.describe())
    extras = tuple(dict.fromkeys(LIBRARIES[target.backend].extra for target in targets))
    with pack_wheel() as wheel, tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
        files = {wheel.name: wheel}
        for index, bundle in enumerate(opened):
            files.update(list_bundle(str(index), bundle))
        job = Job(
            name="bench-" + hash_job(host, platform.node(), os.getpid(), time.time()),
            arguments=("-m", "edgevit", "bench", *(f"input/{i}" for i in range(len(opened))), *options, "--json"),
            files=files,
            extras=extras,
            reserve_bytes=estimate_environment(connection, found, targets[0], extras),
        )
        data = run_job(connection, job, Path(folder), log=log, progress=progress)
    comparison = schema.from_data(Comparison, data, f"the answer of {host}", DeviceError)
    rows = [dataclasses.replace(row, bundle=str(b)) for row, b in zip(comparison.bundles, bundles, strict=True)]
    return dataclasses.replace(comparison, bundles=tuple(rows))
