"""What an engine library compiled, kept in the user's cache so that the next process need not compile it again.

Such a file is native code as good as: whoever writes it may do what the process may. So none is ever taken from a
bundle, and of those in the cache only one that this user made and nobody else can write, whose text is that of the very
engine, library, machine and settings, and whose content has the hash that it was written with. Everything else is as if
it were not there. docs/bundle.md states the form, so that other runtimes can share the files.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevit.core.cache_folder import default_cache_directory
from edgevit.core.errors import OutputError
from edgevit.runtime.cache_file import write_cache

FOLDER = "compiled"
HEADER_BYTES = 4096
"""A page, so that what follows lies in memory as it does in the file."""
MOST_BYTES = 1 << 30
"""Of all files together."""

_MOST_FILES = 64
_TITLE = "edgevit compiled 1"


def write_key(
    *,
    backend: str,
    version: str,
    device: str,
    processor: str | None,
    instruction_set: str | None,
    files: Sequence[tuple[str, str]],
    properties: Mapping[str, Any],
) -> str | None:
    """Everything that what is compiled depends on, as text of one fact a line.

    Args:
        backend: Of the engine.
        version: Of its library, in full.
        device: The library's name of the device.
        processor: Its name.
        instruction_set: The newest tier that the process computes in.
        files: Name and SHA-256 of each of the engine's files, in the engine's order.
        properties: What the library is given.

    Returns:
        ``None`` where the machine does not tell what it is, or a value would break a line.
    """
    if processor is None or instruction_set is None:
        return None
    facts = [
        ("backend", backend),
        ("version", version),
        ("device", device),
        ("processor", processor),
        ("instruction_set", instruction_set),
        *((f"file {name}", digest) for name, digest in files),
        *((f"property {name}", _spell(value)) for name, value in sorted(properties.items())),
    ]
    lines = [_TITLE, *(f"{name} {value}" for name, value in facts)]
    if not all(line.isprintable() for line in lines):
        return None
    return "".join(f"{line}\n" for line in lines)


def _spell(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_compiled(key: str) -> npt.NDArray[np.uint8] | None:
    """What was compiled for this key, mapped from its file; the array must live as long as what is made of it.

    ``None`` where there is none, and where the file is another's, damaged or of another key.
    """
    path = _find_path(key)
    if path is None or not _is_own(path.parent):
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        if not (stat.S_ISREG(found.st_mode) and _is_private(found)) or found.st_size <= HEADER_BYTES:
            return None
        # private to the process: what it would write into the pages reaches no file
        content = np.frombuffer(mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY), np.uint8)
        if content[:HEADER_BYTES].tobytes() != _write_header(key, content[HEADER_BYTES:]):
            return None
        _touch(path)
        return content[HEADER_BYTES:]
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)


def can_keep(key: str, size_bytes: int) -> bool:
    """Whether so much can be kept where only this user can write."""
    path = _find_path(key)
    if path is None or size_bytes > MOST_BYTES or len(key) > HEADER_BYTES // 2:
        return False
    return _is_own(path.parent) if os.path.lexists(path.parent) else True


def write_compiled(key: str, content: bytes) -> bool:
    """Keep what was compiled; the oldest makes room for it. Whether it was written."""
    path = _find_path(key)
    if path is None:
        return False
    root = path.parents[1]
    whole = _write_header(key, np.frombuffer(content, np.uint8)) + content
    return write_cache(
        root, f"{FOLDER}/{path.name}", whole, most_files=_MOST_FILES, most_bytes=MOST_BYTES, private=True
    )


def _find_path(key: str) -> Path | None:
    """``None`` where the system has no owners of files, or nobody a home."""
    if not hasattr(os, "geteuid"):
        return None
    try:
        root = default_cache_directory()
    except OutputError:
        return None
    return root / FOLDER / f"{hashlib.sha256(key.encode()).hexdigest()}.blob"


def _write_header(key: str, content: npt.NDArray[np.uint8]) -> bytes:
    text = f"{key}content {hashlib.sha256(content.data).hexdigest()} {len(content)}\n".encode()
    if len(text) > HEADER_BYTES:
        raise ValueError("the key is too long")
    return text.ljust(HEADER_BYTES, b"\0")


def _is_own(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and _is_private(found)


def _is_private(found: os.stat_result) -> bool:
    """Whether this user made it, and nobody else may write to it."""
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _touch(path: Path) -> None:
    with contextlib.suppress(OSError):  # a cache that is read-only
        os.utime(path)  # what is used stays longest
