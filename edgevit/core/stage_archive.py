"""A finished stage as one tar file, which anybody may have written: what is taken from one is what its record says.

The first member is ``done.json``, called by its own hash and that name. Then each file that it names, in its order, as
a plain file that is called by its hash: so there are no names in the archive to be careful with, and those of the
record are looked at before anything is written. Whatever else an archive has makes it a damaged one.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import BinaryIO, NamedTuple, Protocol

from edgevit.core.done_file import DONE, hash_file, is_whole
from edgevit.core.json_text import parse_json

MOST_RECORD_BYTES = 4 << 20
_BLOCK = 1 << 20


class Source(Protocol):
    """What an archive is read from, once and forwards."""

    def read(self, count: int, /) -> bytes:
        """At most so many bytes; none at the end."""


class ArchiveError(Exception):
    """An archive that is damaged, cut short, or not of the stage."""


class _File(NamedTuple):
    path: PurePath
    size: int
    digest: str


def write_archive(folder: Path, stream: BinaryIO) -> None:
    """Write a finished stage that nobody removes meanwhile.

    Raises:
        OSError: It cannot be read or written.
        ArchiveError: Its record is not one that :func:`read_archive` takes.
    """
    record = (folder / DONE).read_bytes()
    stream.write(_make_header(_name_record(record), len(record)) + record + _pad(len(record)))
    for file in _list_files(record, None):
        with (folder / file.path).open("rb") as content:
            stream.write(_make_header(file.digest, file.size))
            while block := content.read(_BLOCK):
                stream.write(block)
        stream.write(_pad(file.size))
    stream.write(bytes(2 * tarfile.BLOCKSIZE))


def read_archive(source: Source, folder: Path, name: str, *, most_bytes: int) -> None:
    """Write the stage that an archive holds, and check every file of it.

    Args:
        source: The archive.
        folder: Empty, and of this process only.
        name: The stage that is wanted: ``export/KEY``.
        most_bytes: Of all files; nothing is written where the record says more.

    Raises:
        ArchiveError: It is damaged, of another stage, or cannot be written here. What is in the folder is of no use.
    """
    called, size = _read_header(source)
    if size > MOST_RECORD_BYTES:
        raise ArchiveError(f"its {DONE} has {size} bytes")
    record = b"".join(_read(source, size))
    if called != _name_record(record):
        raise ArchiveError(f"it has {called[:80]!r} where its {DONE} belongs, or that is damaged")
    files = _list_files(record, name)
    total = sum(file.size for file in files)
    if total > most_bytes:
        raise ArchiveError(f"its files have {total} bytes, and there is room for {most_bytes}")
    try:
        for file in files:
            _unpack(source, file, folder / file.path)
        (folder / DONE).write_bytes(record)
        hash_file(folder / DONE, sync=True)
    except (OSError, ValueError) as exc:  # a name that is none here; a full disk, which the stage itself will name
        raise ArchiveError(f"it cannot be unpacked: {exc}") from exc
    if not is_whole(folder, contents=False):
        raise ArchiveError("names in it are the same file here")


def _unpack(source: Source, file: _File, path: Path) -> None:
    called, size = _read_header(source)
    if called != file.digest:
        raise ArchiveError(f"it has {called[:80]!r} where the file {file.digest} belongs")
    if size != file.size:
        raise ArchiveError(f"{file.digest} has {size} bytes where its record says {file.size}")
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("xb") as stream:
        for block in _read(source, size):
            digest.update(block)
            stream.write(block)
    if digest.hexdigest() != file.digest:
        raise ArchiveError(f"{str(file.path)[:80]!r} has another hash than its record says")
    hash_file(path, sync=True)


def _list_files(record: bytes, name: str | None) -> list[_File]:
    """What a record names, as paths that lead nowhere else."""
    try:
        data = parse_json(record)
        files = [_File(PurePath(path), size, digest) for path, (size, digest) in data["files"].items()]
        stage = data["stage"]
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ArchiveError(f"its {DONE} cannot be read: {exc}") from exc
    if name is not None and stage != name:
        raise ArchiveError(f"it is of the stage {str(stage)[:80]!r}")
    for file in files:
        if not _is_plain(file.path):
            raise ArchiveError(f"{str(file.path)[:80]!r} is no path inside the stage")
        if type(file.size) is not int or file.size < 0 or not _is_digest(file.digest):
            raise ArchiveError(f"{str(file.path)[:80]!r} has no size and hash")
    paths = [PurePath(DONE), *(file.path for file in files)]
    if len(set(paths)) < len(paths) or {p for path in paths for p in path.parents} & set(paths):
        raise ArchiveError("a path in it is there twice, or a file and a folder")
    return files


def _is_plain(path: PurePath) -> bool:
    return bool(path.parts) and not path.anchor and ".." not in path.parts and "\0" not in str(path)


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _make_header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member.tobuf(tarfile.GNU_FORMAT)  # the others have no room for 8 GiB


def _name_record(record: bytes) -> str:
    """With its hash, as the names of the stage's files stand in it alone."""
    return f"{hashlib.sha256(record).hexdigest()}.{DONE}"


def _read_header(source: Source) -> tuple[str, int]:
    """Name and size of the next member, which is a file."""
    try:
        member = tarfile.TarInfo.frombuf(b"".join(_read(source, tarfile.BLOCKSIZE, padded=False)), "utf-8", "replace")
    except tarfile.HeaderError as exc:
        raise ArchiveError(f"it is no tar file: {exc}") from exc
    if member.type != tarfile.REGTYPE or member.size < 0:
        raise ArchiveError(f"it has {member.name[:80]!r}, which is none, where the files of its record belong")
    return member.name, member.size


def _read(source: Source, size: int, *, padded: bool = True) -> Iterator[bytes]:
    """So many bytes, in blocks; what fills up the last of the archive's is passed over."""
    left = size
    while left:
        block = source.read(min(left, _BLOCK))
        if not block:
            raise ArchiveError("it is cut short")
        left -= len(block)
        yield block
    if padded and (pad := len(_pad(size))):
        b"".join(_read(source, pad, padded=False))


def _pad(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
