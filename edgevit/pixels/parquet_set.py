"""list_parquet: images and labels in parquet files, as Hugging Face's datasets writes them: columns image and label."""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgevit.core.errors import DataError
from edgevit.core.packages import require_package
from edgevit.pixels.class_names import Matching
from edgevit.pixels.listing import LIKE_LABEL, Listing
from edgevit.pixels.shard_files import ShardFiles
from edgevit.pixels.shard_labels import match_shard_labels
from edgevit.pixels.store import Shard, Store

_ROWS, _KEPT = 32, 3
"""Rows that are read at a time, and how many such reads stay, as threads ask for rows a little out of order."""

_HINT = "give the parquet files of a data set with the columns image (its bytes) and label"
_BUFFER = 1 << 20


class ParquetStore(Store):
    """Images in rows of parquet files; a :class:`Store`.

    Rows are read as a stream, some dozen at a time, whatever a file's row groups are: what comes next is cheap, and
    going back begins a row group again.

    Args:
        shards: The files.
        places: By name: which file, and which row.
    """

    def __init__(self, shards: Sequence[Shard], places: dict[str, tuple[int, int]]) -> None:
        self._shards, self._places = tuple(shards), places
        self._lock = threading.Lock()
        self._reader: _Reader | None = None

    def __reduce__(self) -> tuple[type[ParquetStore], tuple[Any, ...]]:
        return ParquetStore, (self._shards, self._places)

    def read(self, file: str) -> bytes:
        """An image's bytes.

        Raises:
            DataError: The file cannot be read, or has changed since it was listed; or the row has no bytes.
        """
        index, row = self._places[file]
        shard = self._shards[index]
        try:
            with self._lock:
                if self._reader is None or self._reader.shard is not shard:
                    shard.require_unchanged(os.stat(shard.path), file)
                    self._reader = _Reader(shard)
                value = self._reader.read(row)
        except OSError as exc:
            raise DataError(f"{file}: {exc.strerror or exc}", "check the path and its permissions") from exc
        except ValueError as exc:  # pyarrow's are
            raise DataError(f"{file}: damaged: {exc}", _HINT) from exc
        if value is None:
            raise DataError(f"{file}: the row has no bytes", "write the images themselves into the file, not paths")
        return value

    def measure(self, file: str) -> int:
        """An image's size in bytes, which is read."""
        return len(self.read(file))

    def stamp(self, file: str) -> str:
        """Of the parquet file, and of the row."""
        index, row = self._places[file]
        return f"{self._shards[index].stamp} {row}"

    def pick(self, files: Sequence[str]) -> ParquetStore:
        """A store of these rows only."""
        places = {file: self._places[file] for file in files}
        kept = sorted({index for index, _ in places.values()})
        new = {old: index for index, old in enumerate(kept)}
        return ParquetStore(
            [self._shards[old] for old in kept], {file: (new[index], row) for file, (index, row) in places.items()}
        )


class _Reader:
    """One file, read forward."""

    def __init__(self, shard: Shard) -> None:
        parquet = require_package("pyarrow.parquet", f"reading {shard.path}", extra="sweep")
        self.shard = shard
        self._file = parquet.ParquetFile(shard.path, buffer_size=_BUFFER, pre_buffer=False)
        self._column = _find_images(self._file)
        groups = self._file.metadata
        self._ends: list[int] = []
        for group in range(groups.num_row_groups):
            self._ends.append((self._ends[-1] if self._ends else 0) + groups.row_group(group).num_rows)
        self._next = 0
        self._batches: Iterator[Any] = iter(())
        self._window: deque[tuple[int, Any]] = deque(maxlen=_KEPT)

    def read(self, row: int) -> bytes | None:
        for first, values in self._window:
            if first <= row < first + len(values):
                value: bytes | None = values[row - first].as_py()
                return value
        group = next((g for g, end in enumerate(self._ends) if row < end), len(self._ends))
        begin = self._ends[group - 1] if group else 0
        if not self._window or row < self._next or begin > self._next:
            self._window.clear()
            self._next = begin
            self._batches = self._file.iter_batches(
                _ROWS, row_groups=range(group, len(self._ends)), columns=[self._column], use_threads=False
            )
        for batch in self._batches:
            values = batch.column(0)
            values = values.field("bytes") if self._column == "image.bytes" else values
            self._window.append((self._next, values))
            self._next += len(values)
            if row < self._next:
                return self.read(row)
        raise ValueError(f"it has no row {row}")


def list_parquet(
    found: ShardFiles, where: Path, labels: Sequence[str] | None, classes: int | None, labelled: bool
) -> Listing:
    """The images of parquet files, by file and row; only the labels are read.

    Raises:
        DataError: Labels fit no class, or only some images have one.
        MissingPackageError: pyarrow is not installed.
    """
    require_package("pyarrow.parquet", f"reading {where}", extra="sweep")
    shards: list[Shard] = []
    places: dict[str, tuple[int, int]] = {}
    values: list[Any] = []
    names: set[tuple[str, ...]] = set()
    offenders: list[tuple[str, str]] = []
    for path in found.paths:
        try:
            shard = Shard.look_at(path, found.root)
            rows, own, own_names = _read_labels(shard, labelled)
        except (OSError, ValueError, DataError) as exc:  # pyarrow's errors are ValueErrors
            offenders.append((path.name, exc.message if isinstance(exc, DataError) else f"cannot be read: {exc}"))
            continue
        for row in range(rows):
            places[f"{shard.name}/{row}"] = (len(shards), row)
        values += own
        names.add(own_names)
        shards.append(shard)
    files, indices, matching = tuple(places), None, None
    if labelled:
        indices, matching = _match(files, values, names, where, labels, classes)
    return Listing(found.root, files, indices, matching, tuple(offenders), ParquetStore(shards, places))


def _match(
    files: Sequence[str],
    values: Sequence[Any],
    names: set[tuple[str, ...]],
    where: Path,
    labels: Sequence[str] | None,
    classes: int | None,
) -> tuple[tuple[int, ...] | None, Matching | None]:
    """By the names that the files give their numbers, where these are the model's; otherwise by the numbers."""

    def match(cells: list[str | None]) -> tuple[tuple[int, ...] | None, Matching | None]:
        return match_shard_labels(files, cells, where, labels, classes, "row a label")

    numbers = [None if value is None else str(value) for value in values]
    own = names.copy().pop() if len(names) == 1 else ()
    if labels is not None and own and all(isinstance(value, int) and 0 <= value < len(own) for value in values):
        try:
            indices, matching = match([own[value] for value in values])
            if matching is not None and matching.rule == "matched by name":
                return indices, matching
        except DataError:
            pass  # other names for the same classes: the numbers have to fit by themselves
    return match(numbers)


def _read_labels(shard: Shard, labelled: bool) -> tuple[int, list[Any], tuple[str, ...]]:
    """How many rows there are, the label of each (``None`` where it has none), and the names of the numbers."""
    parquet = require_package("pyarrow.parquet", f"reading {shard.path}", extra="sweep")
    with parquet.ParquetFile(shard.path) as file:
        _find_images(file)
        rows = file.metadata.num_rows
        if rows > shard.size_bytes:
            raise ValueError(f"it says {rows} rows, and has {shard.size_bytes} bytes")
        schema = file.schema_arrow
        if not labelled or "label" not in schema.names:
            like = [name for name in schema.names if name in LIKE_LABEL]
            if labelled and like:
                raise DataError(f"has no column named label, and one named {like[0]}", f"call {like[0]} label")
            return rows, [None] * rows, ()
        known: dict[Any, Any] = {}  # one object for each label, not one for each row
        values = [
            known.setdefault(value, value)
            for batch in file.iter_batches(1 << 16, columns=["label"], use_threads=False)
            for value in batch.column(0).to_pylist()
        ]
    odd = next((value for value in values if not isinstance(value, int | str | None)), None)
    if odd is not None or any(isinstance(value, bool) for value in known):
        raise ValueError(f"its labels are of the type {schema.field('label').type}, neither numbers nor names")
    # datasets writes -1 where a split has no labels
    return rows, [None if value == -1 else value for value in values], _read_names(schema)


def _find_images(file: Any) -> str:
    """The column of the images' bytes: ``image``, or its field ``bytes``."""
    schema = file.schema_arrow
    if "image" not in schema.names:
        raise DataError(f"has no column named image; its columns: {', '.join(schema.names) or 'none'}"[:500], _HINT)
    kind = str(schema.field("image").type)
    if kind.startswith("struct<") and "bytes: binary" in kind:
        return "image.bytes"
    if kind in ("binary", "large_binary"):
        return "image"
    raise DataError(f"has images of the type {kind[:200]}, not their files' bytes", _HINT)


def _read_names(schema: Any) -> tuple[str, ...]:
    """What datasets calls the numbers of the labels, where it says so."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features["label"]["names"]
    except (KeyError, ValueError, TypeError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()
