"""Finished stages of earlier builds, found again by a hash of everything that they depend on.

A stage writes into a folder of its own under a temporary name, which is renamed when the stage is done: a build that
dies leaves no half stage, and the next one goes on behind the last whole stage. Where the cache lies, and what in it
may be removed, stands in ``cache_folder.py``.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from edgevit.core.cache_folder import (
    STAGES,
    VARIABLE,
    claim_folder,
    default_cache_directory,
    find_own_folder,
    is_behind_link,
    list_finished,
    list_partial,
)
from edgevit.core.errors import OutputError
from edgevit.core.json_text import parse_json
from edgevit.core.own_source import hash_source
from edgevit.core.packages import list_versions

DONE = "done.json"
LIMIT_BYTES = 8 << 30
ABANDONED_SECONDS = 24 * 3600
# A stage's result may change with any of these.
PACKAGES = ("edgevit", "torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "openvino", "numpy", "pillow")


class StageCache:
    """A folder of finished stages, the least recently used of which make room for new ones.

    One instance serves one build: what it has given out stays, also above the limit and for other builds that make
    room, as later stages read it. Builds may share the folder.
    """

    def __init__(self, root: Path | None = None, limit_bytes: int | None = None) -> None:
        self.root = find_own_folder(root) if root is not None else default_cache_directory()
        self.limit_bytes = limit_bytes or _read_limit()
        self._held: dict[Path, BinaryIO] = {}
        weakref.finalize(self, _close, self._held)

    def __reduce__(self) -> tuple[type[StageCache], tuple[Path, int]]:
        return StageCache, (self.root, self.limit_bytes)  # in another process it holds nothing yet

    def run(self, stage: str, inputs: Mapping[str, Any], produce: Callable[[Path], None]) -> tuple[Path, bool]:
        """The stage's folder, made by ``produce`` unless an equal stage has been finished before.

        Args:
            stage: Its name, one of :data:`edgevit.core.cache_folder.STAGES`.
            inputs: Plain data on which the result depends. Versions are added, and the code of edgevit that ``produce``
                may run or that made what it starts from (:mod:`edgevit.core.own_source`).
            produce: Writes the stage's files into an empty folder.

        Returns:
            The folder, and whether it was there already.

        Raises:
            OutputError: The cache cannot be written.
        """
        if stage not in STAGES:  # it would never make room
            raise ValueError(f"{stage} is not in STAGES of edgevit/core/cache_folder.py")
        key = _fingerprint(stage, inputs, produce.__module__)
        final = self.root / stage / key
        if self.hold(final):
            return final, True
        partial = None
        try:
            claim_folder(self.root)
            final.parent.mkdir(exist_ok=True)
            # not by the process's number: containers that share a cache have the same ones
            new = final.parent / f".{key}.{secrets.token_hex(4)}"
            new.mkdir()
            partial = new
            produce(partial)
            written = [p for p in partial.rglob("*") if p.is_file()]
            files = {str(p.relative_to(partial)): (p.stat().st_size, _hash(p, sync=True)) for p in written}
            done = partial / DONE
            done.write_text(json.dumps({"inputs": dict(inputs), "files": files}, indent=1), encoding="utf-8")
            _hash(done, sync=True)
            if self.hold(final):  # another build was faster, and may be reading it
                return final, True
            if not is_behind_link(self.root, final):
                shutil.rmtree(final, ignore_errors=True)
            os.replace(partial, final)
            self.hold(final)
        except OSError as exc:
            full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = "the disk is full" if exc.errno == errno.ENOSPC else str(exc.strerror or exc)
            raise OutputError(
                f"the build cache {self.root} cannot be written: {reason}",
                f"{'make room' if full else 'check its permissions'}, or set {VARIABLE} to a folder elsewhere",
            ) from exc
        finally:
            if partial is not None:
                shutil.rmtree(partial, ignore_errors=True)
        self._make_room()
        return final, False

    def hold(self, folder: Path) -> bool:
        """Whether a stage is whole; from now on nobody removes it, whichever process of this build made it."""
        held = self._held.get(folder)
        file = held or _lock(folder / DONE, shared=True)
        if file is None:
            return False
        if not _is_whole(folder, contents=held is None):
            self._held.pop(folder, None)
            file.close()
            return False
        self._held[folder] = file
        with suppress(OSError):  # a cache that is read-only
            os.utime(folder)
        return True

    def _make_room(self) -> None:
        """Remove what this or another build made here, and nothing else; others may be at the same at this moment."""
        for partial in list_partial(self.root):  # of a build that was killed; a running one is younger
            if time.time() - _read_time(partial) > ABANDONED_SECONDS:
                shutil.rmtree(partial, ignore_errors=True)
        stages = [p for p in list_finished(self.root) if (p / DONE).is_file()]
        sizes = {p: _count_bytes(p) for p in stages}
        total = sum(sizes.values())
        for path in sorted(stages, key=_read_time):
            if total <= self.limit_bytes:
                return
            if path not in self._held and _remove(path):
                total -= sizes[path]


def _read_time(path: Path) -> float:
    """When it was last used; now, where another build has just removed it."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def _count_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _lock(path: Path, *, shared: bool) -> BinaryIO | None:
    """The open file, locked until it is closed; ``None`` where it is not there, or another build has it locked."""
    try:
        file = path.open("rb")
    except OSError:
        return None
    if sys.platform != "win32":  # which removes no open file
        import fcntl

        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError:
            pass  # a file system without locks: builds that share it must not outgrow it
    return file


def _close(held: Mapping[Path, BinaryIO]) -> None:
    for file in held.values():
        file.close()


def _remove(folder: Path) -> bool:
    """Remove a stage that no build reads; whether it was removed."""
    file = _lock(folder / DONE, shared=False)
    if file is None:
        return False
    with file, suppress(PermissionError):
        (folder / DONE).unlink(missing_ok=True)  # while it is locked: nobody takes it from now on
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _read_limit() -> int:
    text = os.environ.get("EDGEVIT_CACHE_BYTES") or str(LIMIT_BYTES)
    if not text.isdecimal():
        raise OutputError(f"EDGEVIT_CACHE_BYTES = {text!r} is not a number of bytes", "set it to a whole number")
    return int(text)


def _is_whole(folder: Path, *, contents: bool) -> bool:
    """Whether every file has its size and, with ``contents``, the bytes that were written: disks lie at times."""
    try:
        files = parse_json((folder / DONE).read_bytes())["files"].items()
        alike = all((folder / name).stat().st_size == size for name, (size, _) in files)
        return alike and not (contents and any(_hash(folder / name) != digest for name, (_, digest) in files))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _hash(path: Path, *, sync: bool = False) -> str:
    digest = hashlib.sha256()
    with path.open("r+b" if sync else "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
        if sync:  # on the disk before the folder gets its name
            os.fsync(stream.fileno())
    return digest.hexdigest()


def _fingerprint(stage: str, inputs: Mapping[str, Any], module: str) -> str:
    code = hash_source(module, *(f"edgevit.{name}" for name in STAGES[stage]))
    text = json.dumps([stage, inputs, list_versions(PACKAGES), code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
