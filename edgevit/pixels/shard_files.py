"""find_shards: the tar or parquet files that a path stands for: one file, a folder of them, or a pattern."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from edgevit.core.errors import DataError, format_offenders
from edgevit.pixels.listing import SUFFIXES

Kind: TypeAlias = Literal["tar", "parquet"]

_KINDS: dict[str, Kind] = {".tar": "tar", ".parquet": "parquet"}
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
_MOST = 100_000
_HINT = "give one .tar or .parquet file, a folder of them, or a pattern such as 'val-{000..009}.tar' or 'val-*.tar'"


@dataclass(frozen=True)
class ShardFiles:
    """What a path stands for.

    Attributes:
        kind: What the files are.
        root: The folder that they lie below.
        paths: The files, in their order.
    """

    kind: Kind
    root: Path
    paths: tuple[Path, ...]


def is_pattern(path: str | os.PathLike[str]) -> bool:
    """Whether it stands for several files by braces or wildcards, and is no file or folder by itself."""
    text = os.fspath(path)
    return bool(_BRACES.search(text) or glob.has_magic(text)) and not os.path.exists(text)


def find_shards(path: Path) -> ShardFiles | None:
    """The files, or ``None`` where the path is something else.

    A folder is one of shards where it holds .tar or .parquet files, and neither images nor folders beside them.

    Args:
        path: A .tar or .parquet file; a folder of them; or a pattern with ranges and lists in braces, as webdataset's,
            or with wildcards.

    Raises:
        DataError: Files of a pattern are missing, or files of several sets or kinds lie in one folder.
    """
    if path.name.endswith(_COMPRESSED):
        raise DataError(
            f"{path} is compressed as a whole, so that no image in it can be read by itself",
            "unpack it to a .tar; images are compressed by themselves",
        )
    if is_pattern(path):
        return _take(_expand(path), path)
    if path.suffix.lower() in _KINDS and path.is_file():
        return ShardFiles(_KINDS[path.suffix.lower()], path.parent, (path,))
    return _look_into(path) if path.is_dir() else None


def _look_into(folder: Path) -> ShardFiles | None:
    try:
        entries = sorted((e for e in folder.iterdir() if not e.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as exc:
        raise DataError(f"{folder}: {exc.strerror}", "check the path and its permissions") from exc
    shards = [entry for entry in entries if entry.suffix.lower() in _KINDS and entry.is_file()]
    if not shards or any(entry.suffix.lower() in SUFFIXES or entry.is_dir() for entry in entries):
        return None
    # Data sets lie with all their splits in one folder, and a figure over train and val together means nothing.
    names = {re.sub(r"\d+", "*", entry.name): entry.name for entry in shards}
    if len(names) > 1 and len({entry.suffix.lower() for entry in shards}) == 1:
        raise DataError(
            f"{folder} holds files of {len(names)} sets: {', '.join(sorted(names)[:5])}",
            f"say which: '{folder / sorted(names)[-1]}'; all of them: '{folder / ('*' + shards[0].suffix)}'",
        )
    return _take(shards, folder)


def _take(paths: list[Path], where: Path) -> ShardFiles:
    kinds = {_KINDS.get(path.suffix.lower()) for path in paths}
    kind = kinds.pop()
    if kinds or kind is None:
        raise DataError(f"{where} stands for files of several kinds, or of another than .tar and .parquet", _HINT)
    parents = [os.path.abspath(path.parent) for path in paths]
    root = paths[0].parent if len(set(parents)) == 1 else Path(os.path.commonpath(parents))
    return ShardFiles(kind, root, tuple(paths if len(set(parents)) == 1 else map(Path.absolute, paths)))


def _expand(pattern: Path) -> list[Path]:
    """The files that it stands for; those of a list or a range of numbers have to be there."""
    names = _open_braces(str(pattern))
    found: list[Path] = []
    missing = []
    for name in names:
        paths = sorted(glob.glob(name)) if glob.has_magic(name) else [name] if os.path.isfile(name) else []
        found += map(Path, paths)
        missing += [] if paths else [name]
    if missing:
        raise DataError(
            f"{pattern}: {len(missing)} of {len(names)} are not there:\n" + format_offenders(missing), _HINT
        )
    return list(dict.fromkeys(found))


def _open_braces(text: str) -> list[str]:
    match = _BRACES.search(text)
    if match is None:
        return [text]
    first, last, listed = match.groups()
    if listed is not None:
        parts = listed.split(",")
    else:
        if int(last) - int(first) >= _MOST:
            raise DataError(f"{text} stands for more than {_MOST} files", _HINT)
        parts = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    rest = _open_braces(text[match.end() :])
    if len(parts) * len(rest) > _MOST:
        raise DataError(f"{text} stands for more than {_MOST} files", _HINT)
    return [text[: match.start()] + part + end for part in parts for end in rest]
