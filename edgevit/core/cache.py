"""Finished stages of earlier builds, found again by a hash of everything that they depend on.

A stage writes into a folder of its own under a temporary name, which is renamed when the stage is done: a build that
dies leaves no half stage, and the next one goes on behind the last whole stage. Of builds that want the same stage at
the same time one makes it (``stage_turn.py``), and a store that other machines see may have it (``shared_store.py``).
Where the cache lies, and what in it may be removed, stands in ``cache_folder.py``.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import secrets
import shutil
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
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
    list_locks,
    list_partial,
)
from edgevit.core.done_file import DONE, is_whole, write_done
from edgevit.core.errors import OutputError
from edgevit.core.file_lock import free_lock, take_lock
from edgevit.core.own_source import hash_source
from edgevit.core.packages import list_versions
from edgevit.core.shared_store import SHARED_VARIABLE, SharedStore
from edgevit.core.stage_turn import OUTSIDE, find_place, take_turn

LIMIT_BYTES = 8 << 30
ABANDONED_SECONDS = 24 * 3600
# A stage's result may change with any of these.
PACKAGES = ("edgevit", "torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "openvino", "numpy", "pillow")


def _say_nothing(text: str) -> None:
    """Tell nobody."""


class StageCache:
    """A folder of finished stages, the least recently used of which make room for new ones.

    One instance serves one build: what it has given out stays, also above the limit and for other builds that make
    room, as later stages read it. Builds may share the folder.

    Args:
        root: The folder; by default the user's.
        limit_bytes: By default ``$EDGEVIT_CACHE_BYTES``, or 8 GiB.
        shared: Where finished stages are looked for and put besides, as fsspec names it (``s3://bucket/prefix``,
            ``gs://…``, ``file:///…``) or a folder; by default ``$EDGEVIT_SHARED_CACHE``, and nowhere if that is empty.
        note: Told, a sentence each, that another build's stage is waited for, and what of the shared place is not used.

    Raises:
        OutputError: A setting is not valid.
        MissingPackageError: The shared place needs a package.
    """

    def __init__(
        self,
        root: Path | None = None,
        limit_bytes: int | None = None,
        *,
        shared: str | None = None,
        note: Callable[[str], None] = _say_nothing,
    ) -> None:
        self.root = find_own_folder(root) if root is not None else default_cache_directory()
        self.limit_bytes = limit_bytes or _read_limit()
        self.note = note
        url = shared if shared is not None else os.environ.get(SHARED_VARIABLE, "")
        self._shared = SharedStore(url, note) if url else None
        self._inside = OUTSIDE
        self._held: dict[Path, BinaryIO] = {}
        weakref.finalize(self, _close, self._held)

    def __reduce__(self) -> tuple[Callable[..., StageCache], tuple[Path, int, str, int]]:
        # in another process it holds nothing yet, and tells nobody
        url = self._shared.remaining_url if self._shared is not None else ""
        return _reopen, (self.root, self.limit_bytes, url, max(self._inside, find_place()))

    def run(self, stage: str, inputs: Mapping[str, Any], produce: Callable[[Path], None]) -> tuple[Path, bool]:
        """The stage's folder, made by ``produce`` unless an equal stage has been finished before.

        Of builds that share the folder and want the same stage at the same time, one makes it and the others wait; if
        it fails or is killed, the next one makes it.

        Args:
            stage: Its name, one of :data:`edgevit.core.cache_folder.STAGES`.
            inputs: Plain data on which the result depends. Versions are added, and the code of edgevit that ``produce``
                may run or that made what it starts from (:mod:`edgevit.core.own_source`).
            produce: Writes the stage's files into an empty folder. It may run later stages in this thread, or in
                processes that it gives this cache.

        Returns:
            The folder, and whether it was there already, here or in the shared place.

        Raises:
            OutputError: The cache cannot be written.
        """
        if stage not in STAGES:  # it would never make room
            raise ValueError(f"{stage} is not in STAGES of edgevit/core/cache_folder.py")
        key = _fingerprint(stage, inputs, produce.__module__)
        final = self.root / stage / key
        if self.hold(final):
            return final, True
        before = _identify(final / DONE)
        try:
            claim_folder(self.root)
            final.parent.mkdir(exist_ok=True)
            with take_turn(
                final.parent / f".{key}.lock",
                list(STAGES).index(stage),
                inside=max(self._inside, find_place()),
                is_made=lambda: _identify(final / DONE) not in (None, before),
                tell=lambda holder: self.note(f"waiting for another build's {stage} ({holder})"),
            ):
                found = self.hold(final) or self._fetch(final) or not self._make(final, inputs, produce)
            if not found:
                self._share(final)
        except OSError as exc:
            full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = "the disk is full" if exc.errno == errno.ENOSPC else str(exc.strerror or exc)
            raise OutputError(
                f"the build cache {self.root} cannot be written: {reason}",
                f"{'make room' if full else 'check its permissions'}, or set {VARIABLE} to a folder elsewhere",
            ) from exc
        self._make_room()
        return final, found

    def _make(self, final: Path, inputs: Mapping[str, Any], produce: Callable[[Path], None]) -> bool:
        """Whether it was made here; not if another build was faster all the same, where there are no locks."""
        with _make_partial(final) as partial:
            produce(partial)
            write_done(partial, _name(final), inputs)
            return self._place(partial, final)

    def _fetch(self, final: Path) -> bool:
        """Whether the shared place had it; it lies here now."""
        if self._shared is None:
            return False
        with _make_partial(final) as partial:
            if not self._shared.fetch(_name(final), partial):
                return False
            self._place(partial, final)
        return True

    def _share(self, final: Path) -> None:
        if self._shared is not None:
            with _make_partial(final) as scratch:
                self._shared.put(_name(final), final, scratch)

    def _place(self, partial: Path, final: Path) -> bool:
        """Give a whole stage its name, unless another build has, and may be reading its own."""
        if self.hold(final):
            return False
        if not is_behind_link(self.root, final):
            shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        self.hold(final)
        return True

    def hold(self, folder: Path) -> bool:
        """Whether a stage is whole; from now on nobody removes it, whichever process of this build made it."""
        held = self._held.get(folder)
        file = held or _lock(folder / DONE, shared=True)
        if file is None:
            return False
        if not is_whole(folder, contents=held is None):
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
        for lock in list_locks(self.root):  # likewise; a stage that takes longer still has it
            if time.time() - _read_time(lock) > ABANDONED_SECONDS:
                with suppress(OSError):
                    handle = take_lock(lock, "", make=False)
                    if handle is not None:
                        free_lock(lock, handle)
        finished = {path: _identify(path / DONE) for path in list_finished(self.root)}
        sizes = {path: _count_once(path, done) for path, done in finished.items() if done is not None}
        total = sum(sizes.values())
        if total <= self.limit_bytes:
            return
        for path in sorted(sizes, key=_read_time):
            if total <= self.limit_bytes:
                return
            if path not in self._held and _remove(path):
                total -= sizes[path]


def _reopen(root: Path, limit_bytes: int, shared: str, inside: int) -> StageCache:
    """The cache in a process that a stage started, or a build: which stages are around it goes with it."""
    cache = StageCache(root, limit_bytes, shared=shared)
    cache._inside = inside
    return cache


@contextmanager
def _make_partial(final: Path) -> Iterator[Path]:
    """A new folder beside a stage, which is removed if it has not become the stage."""
    # not by the process's number: containers that share a cache have the same ones
    partial = final.parent / f".{final.name}.{secrets.token_hex(4)}"
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _name(final: Path) -> str:
    return f"{final.parent.name}/{final.name}"


def _identify(path: Path) -> tuple[int, int] | None:
    """Which file it is; ``None`` where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _read_time(path: Path) -> float:
    """When it was last used; now, where another build has just removed it."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


@functools.lru_cache(maxsize=1 << 16)
def _count_once(folder: Path, done: tuple[int, int]) -> int:
    """Bytes of a finished stage, which never changes; ``done`` says which it is, should another take its place."""
    return _count_bytes(folder)


def _count_bytes(folder: str | Path) -> int:
    total = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    total += _count_bytes(entry.path)
                elif entry.is_file():
                    total += entry.stat().st_size
    return total


def _lock(path: Path, *, shared: bool) -> BinaryIO | None:
    """The open file, locked until it is closed; ``None`` where it is not there, or another build has it locked."""
    try:
        file = path.open("rb" if shared else "r+b")  # NFS locks for itself only what may be written
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


def _fingerprint(stage: str, inputs: Mapping[str, Any], module: str) -> str:
    code = hash_source(module, *(f"edgevit.{name}" for name in STAGES[stage]))
    text = json.dumps([stage, inputs, list_versions(PACKAGES), code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
