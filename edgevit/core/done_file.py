"""What a finished stage says of itself: its name, what it was made from, and the size and hash of every file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgevit.core.json_text import parse_json

DONE = "done.json"


def write_done(folder: Path, name: str, inputs: Mapping[str, Any]) -> None:
    """Write it, with the stage's files on the disk before.

    Args:
        folder: With all of the stage's files.
        name: Of the stage in every cache: ``export/KEY``.
        inputs: For people.
    """
    written = [p for p in folder.rglob("*") if p.is_file()]
    files = {p.relative_to(folder).as_posix(): (p.stat().st_size, hash_file(p, sync=True)) for p in written}
    record = {"stage": name, "inputs": dict(inputs), "files": files}
    (folder / DONE).write_text(json.dumps(record, indent=1), encoding="utf-8")
    hash_file(folder / DONE, sync=True)


def is_whole(folder: Path, *, contents: bool) -> bool:
    """Whether every file has its size and, with ``contents``, the bytes that were written: disks lie at times."""
    try:
        files = parse_json((folder / DONE).read_bytes())["files"].items()
        alike = all((folder / name).stat().st_size == size for name, (size, _) in files)
        return alike and not (contents and any(hash_file(folder / name) != digest for name, (_, digest) in files))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def hash_file(path: Path, *, sync: bool = False) -> str:
    """A file's SHA-256; with ``sync`` its content is on the disk then."""
    digest = hashlib.sha256()
    with path.open("r+b" if sync else "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
        if sync:  # on the disk before the folder gets its name
            os.fsync(stream.fileno())
    return digest.hexdigest()
