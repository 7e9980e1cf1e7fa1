"""run_job: one run of edgevit on a device, from its files to its results, through broken connections."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from edgevit.core.cache_folder import default_cache_directory
from edgevit.core.errors import DeviceError, format_last_lines
from edgevit.core.json_text import parse_json
from edgevit.core.libraries import LIBRARIES
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.target import use_library
from edgevit.remote.probe import estimate_environment, probe_device
from edgevit.remote.ssh import Connection
from edgevit.remote.ssh_errors import OutOfReachError
from edgevit.remote.transfer import fetch_files, hash_job, send_files
from edgevit.runtime.cache_file import is_cache_name, write_cache
from edgevit.runtime.manifest import MANIFEST_FILE

if TYPE_CHECKING:
    from edgevit.runtime.bundle import Bundle

T = TypeVar("T")
Log: TypeAlias = Callable[[str], None]

RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)
RESULT_FILE = "result.json"
"""What the job printed on its standard output."""
FINISHED_CODES = (0, 1)
"""Exit statuses of the command line with results: 1 is a budget that was missed."""
FULL_BYTES = 1 << 20
"""A disk with less is full: it can hold neither a log nor a result, so the job itself could not say so."""
CACHE_FILES = 64
"""So many are kept here, of all devices."""
_RUNNER = Path(__file__).with_name("runner.py")


@dataclass(frozen=True)
class Job:
    """What a device is to do.

    Attributes:
        name: The same for the same work, so that calling again finds what is under way or done.
        arguments: Of the device's Python, in the job's folder: ``input/…`` is what was sent, ``output/…`` is fetched.
        files: Name in ``input`` to the file here; one is edgevit's wheel.
        extras: Of the wheel, that the work needs there.
        reserve_bytes: Space that the work needs besides the files.
        cache_folder: Inside edgevit's cache: files there travel both ways, so that a new board of the same kind, or one
            that was set up again, has what another had measured.
    """

    name: str
    arguments: tuple[str, ...]
    files: Mapping[str, Path]
    extras: tuple[str, ...] = ()
    reserve_bytes: int = 0
    cache_folder: str = ""


def run_job(
    connection: Connection,
    job: Job,
    folder: Path,
    *,
    log: Log = lambda line: None,
    keep: bool = False,
    progress: Progress = ignore_progress,
) -> Any:
    """Run a job on a device and fetch its results; the job's folder there is deleted at the end.

    The job outlives the connection. Where that breaks off it is made again, a few times; after that, calling again
    with the same job attaches to it, or goes on with what it had finished. An interrupt ends it and cleans up.

    Args:
        connection: The device.
        job: The work.
        folder: For the results; half of a file that is there is completed.
        log: Told every line that the job says.
        keep: Leave the job's folder on the device, for what comes after it.
        progress: Told while files are sent and fetched.

    Returns:
        The document that the job printed; ``None`` where it printed none.

    Raises:
        DeviceError: The device is out of reach or lacks something, or the job failed or was killed: with the last lines
            of its log.
    """
    lines: list[str] = []

    def listen(line: str) -> None:
        lines.append(line)
        log(line)

    try:
        files = {**job.files, _RUNNER.name: _RUNNER, **_list_cache(job.cache_folder)}
        persist(
            lambda: send_files(connection, job.name, files, reserve_bytes=job.reserve_bytes, progress=progress), log
        )
        started = persist(lambda: _start(connection, job), log)
        if started["attached"]:
            log("attached to the job that is under way there")
        status = _follow(connection, job.name, 0 if started["attached"] else started["offset"], listen, log)
        if status["state"] != "killed" and "error" not in status:
            persist(lambda: fetch_files(connection, job.name, folder, progress=progress), log)
        _refuse_failure(connection.host, status, folder, lines)
        _keep_cache(folder / "cache", job.cache_folder)
    except KeyboardInterrupt:
        with contextlib.suppress(DeviceError):
            connection.ask("remove", job=job.name)
        raise
    if not keep:
        with contextlib.suppress(DeviceError):  # the results are here; the device deletes what is left after some days
            connection.ask("remove", job=job.name)
    return _read_result(folder)


def make_job(
    connection: Connection, name: str, arguments: Sequence[str], bundles: Mapping[str, Bundle], wheel: Path, log: Log
) -> Job:
    """A job on finished bundles, by their folders in ``input``, that nobody goes on with; the device is asked first.

    Raises:
        BundleError: A bundle is portable.
        DeviceError: The device is out of reach, is not the right one or lacks something.
    """
    # an engine may be of one of the target's further libraries; asking for it refuses a portable bundle
    targets = [use_library(bundle.manifest.target, bundle.engine.backend) for bundle in bundles.values()]
    for target in targets:
        found = probe_device(connection, target)
    log(found.describe())
    extras = tuple(dict.fromkeys(LIBRARIES[target.backend].extra for target in targets))
    files = {wheel.name: wheel}
    for prefix, bundle in bundles.items():
        files.update(list_bundle(prefix, bundle))
    unique = hash_job(connection.host, platform.node(), os.getpid(), time.time())
    room = estimate_environment(connection, found, targets[0], extras)
    return Job(f"{name}-{unique}", tuple(arguments), files, extras, room)


def list_bundle(prefix: str, bundle: Bundle) -> dict[str, Path]:
    """A bundle's files for a job's input, below a folder of their own."""
    return {f"{prefix}/{name}": bundle.path / name for name in (*bundle.manifest.files, MANIFEST_FILE)}


def _start(connection: Connection, job: Job) -> dict[str, Any]:
    return connection.ask(
        "start",
        job=job.name,
        arguments=job.arguments,
        extras=job.extras,
        cache_folder=job.cache_folder,
        python=connection.own_python,
        finished_codes=FINISHED_CODES,
    )


def _list_cache(name: str) -> dict[str, Path]:
    folder = default_cache_directory() / name
    return {f"cache/{path.name}": path for path in sorted(folder.glob("*.cache"))} if name else {}


def _keep_cache(fetched: Path, name: str) -> None:
    for path in sorted(fetched.glob("*.cache")):
        file = f"{name}/{path.name}"
        if is_cache_name(file):  # what a device calls its files is its own matter
            write_cache(default_cache_directory(), file, path.read_bytes(), most_files=CACHE_FILES)


def persist(call: Callable[[], T], log: Log) -> T:
    """The call's result, made again a few times where the connection was lost."""
    for seconds in RETRY_SECONDS:
        try:
            return call()
        except OutOfReachError as exc:
            log(f"{exc.message.splitlines()[0]}: trying again in {seconds:g} s")
            time.sleep(seconds)
    return call()


def _follow(connection: Connection, name: str, offset: int, listen: Log, log: Log) -> dict[str, Any]:
    """The job's status at its end; its lines are passed on as they come."""
    half = ""

    def follow() -> dict[str, Any]:
        nonlocal offset, half
        with connection.call("follow", {"job": name, "offset": offset}) as exchange:
            while True:
                answer = exchange.receive()
                if "status" in answer:
                    status: dict[str, Any] = answer["status"]
                    return status
                offset = answer["offset"]
                *whole, half = (half + answer["log"]).split("\n")
                for line in whole:
                    listen(line)

    while True:
        before = offset
        try:
            status = persist(follow, log)
        except OutOfReachError as exc:
            if offset > before:  # it had come further: the patience begins anew
                continue
            raise OutOfReachError(
                f"{exc.message.splitlines()[0]}; the job goes on there",
                "run the same command again: it attaches to the job, or fetches what it has done",
            ) from exc
        if half:
            listen(half)
        return status


def _refuse_failure(host: str, status: Mapping[str, Any], folder: Path, lines: list[str]) -> None:
    killed, errors = status["state"] == "killed", ("error: ", "hint: ")
    failed = "error" in status or status.get("code") not in FINISHED_CODES
    if (killed or failed) and status.get("free_bytes", FULL_BYTES) < FULL_BYTES:
        raise DeviceError(
            f"{host}: its disk is full, at stage {status.get('stage', 'start')}{format_last_lines(lines)}",
            "make room on the device, or set EDGEVIT_CACHE there to a folder on a larger disk; run the same command "
            "again, which goes on with what was finished",
        )
    if killed:
        raise DeviceError(
            f"the job on {host} was killed at stage {status.get('stage', 'start')}{format_last_lines(lines)}",
            "mostly that is too little memory: close what else runs there; run the same command again, which goes on "
            "with what was finished",
        )
    if "error" in status:
        raise DeviceError(f"{host}: {status['error']}{format_last_lines(lines)}", status["hint"])
    if status["code"] not in FINISHED_CODES:
        said = _read_result(folder)
        said = said if isinstance(said, dict) and "error" in said else {}
        if said:  # the lines have it too, and its list
            lines = [] if "\n" in said["error"] else [line for line in lines if not line.startswith(errors)]
        code = status["code"]
        how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
        raise DeviceError(
            f"{host}: {said.get('error') or f'edgevit {how}'}{format_last_lines(lines)}",
            said.get("hint") or "see the last lines above; a signal 9 is mostly too little memory",
        )


def _read_result(folder: Path) -> Any:
    try:
        return parse_json((folder / RESULT_FILE).read_bytes())
    except (OSError, ValueError):
        return None
