"""PackedContents: a bundle that is one file, read without trusting it; and open_contents, which takes either form.

A packed bundle is a zip in which every file lies as it is, so that it can be mapped. Programs that read zips differ in
what they believe where its two descriptions of a file contradict each other, and that is what attacks on them are made
of. Here the central directory counts only where every local header agrees, and files overlap neither each other nor it.
docs/bundle.md states the form.
"""

from __future__ import annotations

import io
import itertools
import mmap
import os
import stat
import struct
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from edgevit.core.contents import Contents
from edgevit.core.errors import BundleError
from edgevit.runtime.folder import FolderContents, is_safe_name

SUFFIX = ".edgevit"
MOST_FILES = 64
MOST_BYTES = (1 << 32) - 1
"""A zip with larger ones has further headers, which nobody needs."""

LOCAL, CENTRAL, END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
LOCAL_MARK, CENTRAL_MARK, END_MARK = b"PK\3\4", b"PK\1\2", b"PK\5\6"
UTF8_FLAG = 1 << 11

_DOS_FOLDER = 0x10
_COPY = "copy it again, or pack the bundle again"
_UNSAFE = partial(BundleError, code="unsafe")


class _Entry(NamedTuple):
    """Where a file lies: its header's first byte, its own first byte, and its size."""

    header: int
    begin: int
    size: int


class PackedContents(Contents):
    """The files within one packed file, which stays open for as long as this lives.

    Raises:
        BundleError: It is no packed bundle, is cut short, or is not of the one form that is taken.
    """

    packed = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = _open_file(path)
        size = os.fstat(self._stream.fileno()).st_size
        if self._stream.read(len(LOCAL_MARK)) != LOCAL_MARK:
            raise _refuse_other(path)
        if size > MOST_BYTES:
            raise _UNSAFE(f"{path} has {size} bytes, and a packed bundle {MOST_BYTES} at most", "ship the folder")
        self._bytes = mmap.mmap(self._stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._entries = _read_entries(path, self._bytes)

    def list_names(self) -> list[str]:
        """See :class:`edgevit.core.contents.Contents`."""
        return sorted(self._entries)

    def is_irregular(self, name: str) -> bool:
        """See :class:`edgevit.core.contents.Contents`."""
        self._find(name)
        return False

    def measure(self, name: str) -> int:
        """See :class:`edgevit.core.contents.Contents`."""
        return self._find(name).size

    def map(self, name: str) -> memoryview:
        """See :class:`edgevit.core.contents.Contents`."""
        _, begin, size = self._find(name)
        if size == 0:  # which cannot be mapped
            return memoryview(bytearray())
        before = begin % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(self._stream.fileno(), before + size, access=mmap.ACCESS_COPY, offset=begin - before)
        return memoryview(mapped)[before:]

    def _find(self, name: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise FileNotFoundError(f"{self.path} has no {name}")
        return entry


def open_contents(path: Path) -> Contents:
    """The files of a bundle's folder, or of a packed bundle.

    Raises:
        BundleError: It is neither, or a packed bundle that is damaged or not of the form that is taken.
    """
    return FolderContents(path) if path.is_dir() else PackedContents(path)


def is_packed(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a packed bundle, by its name: other files, such as checkpoints, are zips too."""
    return os.fspath(path).endswith(SUFFIX) and os.path.isfile(path)


def _open_file(path: Path) -> io.FileIO:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        handle = os.open(path, flags)
    except FileNotFoundError as exc:
        raise BundleError(
            f"{path} is not there", "give the folder that edgevit build wrote", code="not-a-bundle"
        ) from exc
    except NotADirectoryError as exc:
        raise _refuse_other(path) from exc
    except (OSError, ValueError) as exc:  # ValueError: a zero byte in the path
        reason = getattr(exc, "strerror", None) or exc
        raise BundleError(f"{path} cannot be read: {reason}", "check its permissions", code="not-a-bundle") from exc
    stream = os.fdopen(handle, "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        stream.close()
        raise _refuse_other(path)
    return stream


def _refuse_other(path: Path) -> BundleError:
    hint = f"give the folder that edgevit build wrote, or a file that edgevit pack made of it (NAME{SUFFIX})"
    return BundleError(f"{path} is neither a bundle's folder nor a packed bundle", hint, code="not-a-bundle")


def _read_entries(path: Path, data: mmap.mmap) -> dict[str, _Entry]:
    """Every file by its name, from the central directory and the local headers, which have to agree."""
    end = len(data) - END.size
    if end < 0 or data[end : end + 4] != END_MARK:
        raise BundleError(f"{path} is cut short, or something was added at its end", _COPY, code="damaged")
    _, disk, first_disk, here, count, size, begin, comment = END.unpack_from(data, end)
    problem = (
        "is a zip of several parts or with a comment"
        if disk or first_disk or here != count or comment
        else f"lists {count} files, and {MOST_FILES} are the most"
        if count > MOST_FILES
        else "has a directory that is not where its end says"
        if begin + size != end
        else None
    )
    if problem:
        raise _UNSAFE(f"{path} {problem}", _COPY)
    entries: dict[str, _Entry] = {}
    place = begin
    for _ in range(count):
        name, entry, place = _read_entry(path, data, place, begin, end)
        if name in entries:
            raise _UNSAFE(f"{path} has two files called {name}", _COPY)
        entries[name] = entry
    if place != end:
        raise _UNSAFE(f"{path} lists more or fewer files than it says", _COPY)
    _refuse_overlaps(path, entries)
    return entries


def _read_entry(path: Path, data: mmap.mmap, place: int, limit: int, end: int) -> tuple[str, _Entry, int]:
    """A file's name, where it lies, and where the directory goes on.

    Args:
        path: For messages.
        data: The whole file.
        place: Where its line of the directory begins.
        limit: Where the directory begins: files end before it.
        end: Where the directory ends.
    """
    if place + CENTRAL.size > end or data[place : place + 4] != CENTRAL_MARK:
        raise _UNSAFE(f"{path} has a directory that is not one", _COPY)
    fields = CENTRAL.unpack_from(data, place)
    _, _, _, flags, method, _, _, crc, packed, size, length, extra, comment, disk, _, attributes, header = fields
    after = place + CENTRAL.size + length
    raw = data[place + CENTRAL.size : after]
    name = _decode(raw)
    if after > end or not is_safe_name(name):
        raise _UNSAFE(f"{path} has a file called {ascii(raw)[1:]}, which is no plain name", _COPY)
    kind = stat.S_IFMT(attributes >> 16)
    if kind not in (0, stat.S_IFREG) or attributes & _DOS_FOLDER:
        raise _UNSAFE(f"{path}: {name} is a link, a folder or a device, not a file", _COPY)
    if method or packed != size or flags & ~UTF8_FLAG:
        raise _UNSAFE(f"{path}: {name} is compressed or encrypted, or described after its end", _COPY)
    if extra or comment or disk:
        raise _UNSAFE(f"{path}: {name} has a comment or further fields in the directory", _COPY)
    begin = header + LOCAL.size
    if begin > limit:
        raise _UNSAFE(f"{path}: {name} lies outside of the files", _COPY)
    mark, _, own_flags, own_method, _, _, own_crc, own_packed, own_size, own_length, own_extra = LOCAL.unpack_from(
        data, header
    )
    alike = (mark, own_flags, own_method, own_crc, own_packed, own_size, own_length)
    if alike != (LOCAL_MARK, flags, method, crc, packed, size, length) or data[begin : begin + length] != raw:
        raise _UNSAFE(f"{path}: {name} is described in two ways that differ", _COPY)
    begin += length + own_extra
    if begin + size > limit:
        raise _UNSAFE(f"{path}: {name} lies outside of the files", _COPY)
    return name, _Entry(header, begin, size), after


def _decode(raw: bytes) -> str:
    """A name; nothing, which is no safe one, where it is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return ""


def _refuse_overlaps(path: Path, entries: dict[str, _Entry]) -> None:
    spans = sorted((entry.header, entry.begin + entry.size, name) for name, entry in entries.items())
    for (_, stop, name), (start, _, other) in itertools.pairwise(spans):
        if start < stop:
            raise _UNSAFE(f"{path}: {name} and {other} overlap", _COPY)
    for name in entries:
        if any(parent.as_posix() in entries for parent in PurePosixPath(name).parents):
            raise _UNSAFE(f"{path}: {name} lies below what is itself a file", _COPY)
