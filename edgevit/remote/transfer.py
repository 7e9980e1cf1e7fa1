"""Files to a device and back, each checked by its hash; what a broken connection left is gone on with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgevit.core.errors import DeviceError, OutputError
from edgevit.core.progress import Progress, ignore_progress
from edgevit.remote.ssh import Connection, Exchange
from edgevit.runtime.folder import is_safe_name
from edgevit.runtime.manifest import FileRecord, hash_file

_BLOCK = 1 << 18


def send_files(
    connection: Connection,
    job: str,
    files: Mapping[str, Path],
    *,
    reserve_bytes: int = 0,
    progress: Progress = ignore_progress,
) -> None:
    """Send a job's input. Files that are there already are not sent again, and half a file is completed.

    Args:
        connection: The device.
        job: The job's name.
        files: Name in the job's input folder to the file here.
        reserve_bytes: Space that has to be left for the work itself.
        progress: Told in megabytes.

    Raises:
        DeviceError: There is not enough space for the files and the work; nothing is sent then. Or the call failed.
        OutOfReachError: Calling again goes on where this ended.
    """
    records = {name: hash_file(path) for name, path in files.items()}
    request = {"job": job, "files": {n: asdict(r) for n, r in records.items()}, "reserve_bytes": reserve_bytes}
    with connection.call("put", request) as exchange:
        offsets = exchange.receive()["offsets"]
        total = sum(records[name].size_bytes - offset for name, offset in offsets.items())
        done = 0
        for name, offset in offsets.items():
            with files[name].open("rb") as stream:
                stream.seek(offset)
                while block := stream.read(_BLOCK):
                    exchange.send(block)
                    done += len(block)
                    progress("send (MB)", done >> 20, total >> 20)
            exchange.receive()
        progress("send (MB)", total >> 20, total >> 20)


def fetch_files(connection: Connection, job: str, folder: Path, *, progress: Progress = ignore_progress) -> None:
    """Fetch a job's output into a folder; half a file that an earlier call left there is completed.

    Raises:
        DeviceError: A file arrived damaged, or the call failed.
        OutOfReachError: Calling again goes on where this ended.
        OutputError: The folder cannot be written.
    """
    with connection.call("get", {"job": job}) as exchange:
        records = {name: FileRecord(**data) for name, data in exchange.receive()["files"].items()}
        unsafe = [name for name in records if not is_safe_name(name)]
        if unsafe:
            raise DeviceError(
                f"{connection.host} sent names that lead elsewhere: {', '.join(unsafe)}",
                "nothing was written; look into that device",
            )
        try:
            _receive_files(exchange, records, folder, progress)
        except OSError as exc:
            raise OutputError(f"{folder} cannot be written: {exc.strerror or exc}", "check the free space") from exc


def _receive_files(exchange: Exchange, records: Mapping[str, FileRecord], folder: Path, progress: Progress) -> None:
    offsets = {}
    for name, record in records.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and hash_file(path) == record:
            continue
        half = _partial(path).stat().st_size if _partial(path).is_file() else 0
        offsets[name] = half if half <= record.size_bytes else 0
    total, done = sum(records[name].size_bytes - offset for name, offset in offsets.items()), 0
    exchange.send_line({"offsets": offsets})
    for name, offset in offsets.items():
        path, record = folder / name, records[name]
        with _partial(path).open("r+b" if offset else "wb") as stream:
            stream.seek(offset)
            left = record.size_bytes - offset
            while left:
                block = exchange.read(min(left, _BLOCK))
                stream.write(block)
                left -= len(block)
                done += len(block)
                progress("fetch (MB)", done >> 20, total >> 20)
        if hash_file(_partial(path)) != record:
            _partial(path).unlink()
            raise DeviceError(f"{name} arrived damaged", "run the command again: the file is fetched anew")
        _partial(path).replace(path)
    progress("fetch (MB)", total >> 20, total >> 20)


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def hash_job(*parts: Any) -> str:
    """A name for a job from everything that makes it the same job: 24 hexadecimal digits."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
