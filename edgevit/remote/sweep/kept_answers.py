"""Files of finished shards: each is written whole under another name first, and its hash is checked when it is read.

A file is a line of JSON, which has the hash of the rest, and then the rest: arrays in NumPy's format, or nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevit.core.errors import OutputError
from edgevit.core.json_text import parse_json

_ABANDONED_SECONDS = 24 * 3600
_PARTIAL = ".partial"


def write_kept(path: Path, head: Mapping[str, Any], arrays: Sequence[npt.NDArray[Any]] = ()) -> None:
    """Write a shard's file, at once or not at all.

    Args:
        path: Where; its folder is made.
        head: Plain data.
        arrays: Of numbers.

    Raises:
        OutputError: It cannot be written.
    """
    stream = io.BytesIO()
    for values in arrays:
        np.lib.format.write_array(stream, np.ascontiguousarray(values), allow_pickle=False)
    body = stream.getbuffer()
    line = json.dumps({"head": dict(head), "arrays": len(arrays), "sha256": hashlib.sha256(body).hexdigest()})
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            file.write(line.encode() + b"\n")
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as exc:
        raise OutputError(
            f"{path} cannot be written: {exc.strerror or exc}", "make room, or name another folder with --resume-folder"
        ) from exc
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def read_kept(path: Path) -> tuple[dict[str, Any], list[npt.NDArray[Any]]] | None:
    """What a shard's file has, or ``None`` where there is none, or one that is not whole."""
    try:
        with open(path, "rb") as file:
            said = parse_json(file.readline())
            body = file.read()
        if said["sha256"] != hashlib.sha256(body).hexdigest():
            return None
        stream = io.BytesIO(body)
        arrays = [np.lib.format.read_array(stream, allow_pickle=False) for _ in range(said["arrays"])]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return said["head"], arrays


def count_try(path: Path, run: str, most: int) -> bool:
    """Note that a shard's file is to be made now; whether that is allowed once more.

    Ray gives a shard of a worker that died to the next one, without end. A shard that ends its workers by what is in it
    would go through all of them.

    Args:
        path: The file.
        run: By which runs of the command differ.
        most: Tries in a run.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in range(most):
        with contextlib.suppress(FileExistsError):
            path.with_name(f".{path.name}.{run}.{number}{_PARTIAL}").touch(exist_ok=False)
            return True
    return False


def forget_tries(path: Path, run: str) -> None:
    """Remove the notes of a shard whose file is there."""
    for note in path.parent.glob(f".{path.name}.{run}.*{_PARTIAL}"):
        with contextlib.suppress(OSError):
            note.unlink()


def remove_partial(folder: Path) -> None:
    """Remove what writers that were killed left in a folder; one that writes now is younger."""
    for path in folder.glob(f".*{_PARTIAL}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()
