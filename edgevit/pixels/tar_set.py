"""list_tars: images and labels in tar files, as webdataset writes them: ``key.jpg`` beside ``key.cls`` or ``key.json``.

Only headers and labels are read, and nothing is unpacked: an image is found by its offset. What a tar file says of
itself may be anything, so that names, offsets and sizes are held against the file before they are used.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from edgevit.core.errors import DataError
from edgevit.core.json_text import parse_json
from edgevit.pixels.listing import OTHER_FORMAT, OTHER_SUFFIXES, SUFFIXES, Listing
from edgevit.pixels.shard_files import ShardFiles
from edgevit.pixels.shard_labels import match_shard_labels
from edgevit.pixels.store import Shard, Store

_KEY = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)
"""webdataset's rule: a name is its key up to the first dot after the last slash, and then says what of it this is."""

_MOST_HEADER = 1 << 20
"""Bytes of a header of long names and further fields; tarfile would read whatever it claims to have into memory."""

_MOST_LABEL = {"cls": 1 << 10, "json": 1 << 20}


class _DamagedTarError(ValueError):
    """What is wrong with a tar file, and where."""


class _Headers:
    """What tarfile reads headers through, of a bounded size each."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.seek, self.tell = stream, stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_HEADER:
            raise _DamagedTarError(f"a header of {size} bytes")
        return self._stream.read(size)


@dataclass
class _Found:
    """What one tar file holds: images and labels by key, and (name, reason) of what is wrong."""

    images: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    cells: dict[str, str] = field(default_factory=dict)
    inexact: dict[str, str] = field(default_factory=dict)
    offenders: list[tuple[str, str]] = field(default_factory=list)


class TarStore(Store):
    """Members of tar files; a :class:`Store`.

    Args:
        shards: The tar files.
        places: By name: which shard, the offset in it and the size in bytes.
    """

    def __init__(self, shards: Sequence[Shard], places: dict[str, tuple[int, int, int]]) -> None:
        self._shards, self._places = tuple(shards), places

    def read(self, file: str) -> bytes:
        """A member's bytes.

        Raises:
            DataError: The tar file cannot be read, or has changed since it was listed.
        """
        index, offset, size = self._places[file]
        shard = self._shards[index]
        try:
            with open(shard.path, "rb") as stream:
                shard.require_unchanged(os.fstat(stream.fileno()), file)
                stream.seek(offset)
                return stream.read(size)
        except OSError as exc:
            raise DataError(f"{file}: {exc.strerror}", "check the path and its permissions") from exc

    def measure(self, file: str) -> int:
        """A member's size in bytes."""
        return self._places[file][2]

    def stamp(self, file: str) -> str:
        """Of the tar file, and of the member's place in it."""
        index, offset, size = self._places[file]
        return f"{self._shards[index].stamp} {offset} {size}"

    def pick(self, files: Sequence[str]) -> TarStore:
        """A store of these members only."""
        places = {file: self._places[file] for file in files}
        kept = sorted({index for index, _, _ in places.values()})
        new = {old: index for index, old in enumerate(kept)}
        return TarStore(
            [self._shards[old] for old in kept],
            {file: (new[index], offset, size) for file, (index, offset, size) in places.items()},
        )


def list_tars(
    found: ShardFiles, where: Path, labels: Sequence[str] | None, classes: int | None, labelled: bool
) -> Listing:
    """The images of tar files, in the order in which they lie there.

    Raises:
        DataError: Labels fit no class, or only some images have one.
    """
    shards: list[Shard] = []
    places: dict[str, tuple[int, int, int]] = {}
    cells: list[str | None] = []
    offenders: list[tuple[str, str]] = []
    for path in found.paths:
        try:
            shard = Shard.look_at(path, found.root)
            one = _read_tar(shard)
        except OSError as exc:
            offenders.append((path.name, exc.strerror or "cannot be read"))
            continue
        offenders += one.offenders
        for key, (name, offset, size) in one.images.items():
            places[f"{shard.name}/{name}"] = (len(shards), offset, size)
            cells.append(one.cells.get(key))
        shards.append(shard)
    files, indices, matching = tuple(places), None, None
    if labelled:
        indices, matching = match_shard_labels(files, cells, where, labels, classes, "a member KEY.cls or KEY.json")
    return Listing(found.root, files, indices, matching, tuple(offenders), TarStore(shards, places))


def _read_tar(shard: Shard) -> _Found:
    """Everything that a tar file says; where it is damaged, what lies before that."""
    found = _Found()
    seen: set[str] = set()
    with open(shard.path, "rb") as stream:
        try:
            for member in _walk(stream, shard.size_bytes):
                name = member.name.removeprefix("./")
                shown = f"{shard.name}/{name}"
                if member.isdir() or (match := _KEY.fullmatch(name)) is None:
                    continue
                key, what = match[1], match[2].lower()
                ending = f".{what.rpartition('.')[2]}"
                if what not in _MOST_LABEL and ending not in SUFFIXES | OTHER_SUFFIXES:
                    continue  # captions, masks of other programs and so on
                if reason := _refuse_name(name):
                    found.offenders.append((f"{shard.name}/{ascii(name)[1:-1]}", reason))
                elif name in seen:
                    found.offenders.append((shown, "is there twice"))
                elif not member.isreg() or member.issparse():
                    found.offenders.append((shown, "is no plain file in it, but a link or of another kind"))
                elif what in _MOST_LABEL:
                    _read_label(stream, member, key, what, shown, found)
                elif ending != f".{what}":
                    found.inexact.setdefault(key, shown)  # key.mask.png, beside its image
                elif ending in OTHER_SUFFIXES:
                    found.offenders.append((shown, OTHER_FORMAT))
                elif key in found.images:
                    found.offenders.append((shown, f"has the same key as {found.images[key][0]}"))
                else:
                    found.images[key] = (name, member.offset_data, member.size)
                seen.add(name)
        except _DamagedTarError as exc:
            found.offenders.append((shard.name, f"is no whole tar file: {exc}"))
    dotted = "has a dot in its name, and no image of its key is there: a key ends at the first dot"
    found.offenders += [(shown, dotted) for key, shown in found.inexact.items() if key not in found.images]
    return found


def _walk(stream: BinaryIO, size: int) -> Iterator[tarfile.TarInfo]:
    """The members, each of which lies within the file.

    tarfile ends in silence where a header is damaged, and goes back where one says so; here both are errors.

    Raises:
        _DamagedTarError: It is no tar file, or not a whole one.
    """
    end = 0
    try:
        with tarfile.open(fileobj=_Headers(stream), mode="r:") as tar:  # type: ignore[call-overload]
            while (member := tar.next()) is not None:
                tar.members = []  # which would hold all of them
                if member.size < 0 or member.offset < end or tar.offset <= member.offset:
                    raise _DamagedTarError(f"what lies at byte {end} points to itself")
                if member.isreg() and member.offset_data + member.size > size:
                    raise _DamagedTarError(f"cut short: it ends within {ascii(member.name)[:80]}")
                end = tar.offset
                yield member
            stream.seek(end := tar.offset)
            rest = stream.read(_MOST_HEADER)
            if len(rest) < tarfile.BLOCKSIZE:
                raise _DamagedTarError("cut short: the mark of its end is not there")
            if rest.strip(b"\0"):
                raise _DamagedTarError(f"the header at byte {end} is damaged, or another archive follows")
    except (tarfile.TarError, ValueError, EOFError, OverflowError, RecursionError, MemoryError) as exc:
        if isinstance(exc, _DamagedTarError):
            raise
        raise _DamagedTarError(str(exc) or type(exc).__name__) from exc


def _refuse_name(name: str) -> str:
    """Why a member's name is not taken; nothing is unpacked, and yet names end in reports, pages and terminals."""
    if name.startswith("/") or ".." in name.split("/"):
        return "has a name that leads out of the archive"
    return "" if name.isprintable() and len(name) <= 4096 else "has a name with characters that are no text"


def _read_label(stream: BinaryIO, member: tarfile.TarInfo, key: str, what: str, shown: str, found: _Found) -> None:
    """``key.cls`` holds the label; ``key.json`` holds it as ``label``, and counts where there is no ``key.cls``."""
    if member.size > _MOST_LABEL[what]:
        found.offenders.append((shown, f"has {member.size} bytes, too many for a label"))
        return
    stream.seek(member.offset_data)
    content = stream.read(member.size)
    try:
        if what == "cls":
            found.cells[key] = content.decode().strip()
            return
        data = parse_json(content)
        label = data.get("label") if isinstance(data, dict) else None
        if isinstance(label, str | int) and not isinstance(label, bool):
            found.cells.setdefault(key, str(label))
        elif label is not None:
            found.offenders.append((shown, "has a label that is neither a number nor a name"))
    except ValueError as exc:  # UnicodeDecodeError is one
        found.offenders.append((shown, f"is no label: {exc}"))
