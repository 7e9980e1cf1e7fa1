"""pack_bundle: write a bundle, whole or not at all.

A bundle is written under a temporary name beside its own and renamed when it is complete. A previous bundle is moved
aside, and deleted once the new one has its name; whatever an interrupted run leaves is put right by the next one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgevit.build.lock import OutputLock, lock_output
from edgevit.core.errors import OutputError, format_offenders
from edgevit.core.json_text import parse_json
from edgevit.runtime.bundle import Bundle, refuse_inside
from edgevit.runtime.bundle_settings import check_manifest_settings
from edgevit.runtime.folder import FolderContents, list_files
from edgevit.runtime.manifest import MANIFEST_FILE, FileRecord, Manifest, dump_manifest, find_unsafe_names
from edgevit.runtime.signature import SIGNATURE_FILE


def check_output(out: str | os.PathLike[str]) -> None:
    """Refuse an output folder early: before the slow part of a build, and again before writing.

    Raises:
        OutputError: The folder cannot be written, or holds something that is not an edgevit bundle.
    """
    out = _resolve(out)
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is not a folder", "choose another --out")
    if out == Path.cwd():
        raise OutputError(f"{out} is the current folder, which cannot be replaced", "give --out a name of its own")
    refuse_inside(out)
    if out.is_dir():
        _refuse_foreign_files(out)
    with _explain_os_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        probe = out.parent / f".{out.name}.edgevit-probe-{secrets.token_hex(4)}"
        stream = probe.open("xb")  # new, so that nothing is written over, also through a link
        try:
            with stream:
                stream.write(b"edgevit")
        finally:
            probe.unlink(missing_ok=True)


def pack_bundle(
    out: str | os.PathLike[str],
    *,
    files: Mapping[str, Path | bytes],
    manifest: Manifest,
    lock: OutputLock | None = None,
) -> Bundle:
    """Write a bundle, replacing an earlier one only when the new one is complete.

    Args:
        out: The bundle's folder; made with its parents.
        files: Path in the bundle to a file that is copied, or to its content.
        manifest: Its ``files`` are filled in here.
        lock: The lock on ``out`` if the caller holds it; otherwise it is taken for the time of writing.

    Returns:
        The bundle.

    Raises:
        OutputError: The folder cannot be written, the disk is full, another build writes it, or it holds something that
            is not an edgevit bundle; or the manifest sets what no bundle may. An earlier bundle is untouched then.
    """
    out = _resolve(out)
    check_manifest_settings(out, manifest, OutputError)
    unsafe = find_unsafe_names(files)
    if unsafe:
        raise OutputError(f"a bundle cannot hold files called {', '.join(unsafe)}", "give plain relative names")
    with contextlib.ExitStack() as stack:
        if lock is None:
            check_output(out)
            stack.enter_context(lock_output(out))
        recover_output(out)
        check_output(out)
        with _explain_os_errors(out):
            _require_space(out.parent, files)
            temporary = _sibling(out, f"new-{os.getpid()}")
            try:
                manifest = _write_files(temporary, files, manifest)
                _swap(temporary, out)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return Bundle(out, manifest, FolderContents(out))


def recover_output(out: str | os.PathLike[str]) -> None:
    """Put right what an interrupted run left beside ``out``; the caller holds the lock, so no other run is at work.

    A previous bundle that was moved aside gets its name back where the new one did not get it.
    """
    out = _resolve(out)
    old = _sibling(out, "old")
    with _explain_os_errors(out):
        if old.exists():
            if out.exists():
                shutil.rmtree(old)
            else:
                os.rename(old, out)
        for leftover in out.parent.glob(f".{glob.escape(out.name)}.edgevit-new-*"):
            if leftover.name.rpartition("-")[2].isdecimal() and not leftover.is_symlink():  # as written below
                shutil.rmtree(leftover)


def _resolve(out: str | os.PathLike[str]) -> Path:
    """Through links, so that a link to a bundle goes on pointing to it."""
    try:
        return Path(out).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as exc:
        raise OutputError(f"{os.fspath(out)!r} is not a usable path: {exc}", "choose another --out") from exc


def _sibling(out: Path, suffix: str) -> Path:
    return out.parent / f".{out.name}.edgevit-{suffix}"


def _refuse_foreign_files(out: Path) -> None:
    """A folder may be replaced if it is empty, or a bundle without anything else in it."""
    present = list_files(out)
    if not present:
        return
    try:
        data = parse_json((out / MANIFEST_FILE).read_bytes())
        known = {*data["files"], MANIFEST_FILE, SIGNATURE_FILE} if "edgevit_version" in data else set()
    except (OSError, ValueError, TypeError, KeyError):
        known = set()
    if not known:
        raise OutputError(
            f"{out} is not empty, and is not an edgevit bundle that can be replaced",
            "choose another --out, or delete that folder yourself",
        )
    foreign = [name for name in present if name not in known]
    if foreign:
        raise OutputError(
            f"{out} would be replaced, but holds files that are not part of the bundle:\n{format_offenders(foreign)}",
            "move them elsewhere, or choose another --out",
        )


def _require_space(parent: Path, files: Mapping[str, Path | bytes]) -> None:
    needed = sum(len(item) if isinstance(item, bytes) else item.stat().st_size for item in files.values())
    free = shutil.disk_usage(parent).free
    if free < needed:
        message = f"{parent} has {free} bytes free, and the bundle needs {needed}"
        raise OutputError(message, "free some space, or choose another --out")


def _write_files(folder: Path, files: Mapping[str, Path | bytes], manifest: Manifest) -> Manifest:
    """Write everything into a new folder; the manifest last."""
    folder.mkdir()
    records = {}
    for name, item in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        records[name] = _write_file(target, item)
    manifest = dataclasses.replace(manifest, files=records)
    try:
        content = dump_manifest(manifest)
    except (ValueError, TypeError) as exc:
        raise OutputError(f"the manifest cannot be written as JSON: {exc}", "report this as a bug") from exc
    _write_file(folder / MANIFEST_FILE, content)
    return manifest


def _write_file(path: Path, item: Path | bytes) -> FileRecord:
    """Copy a file or write bytes, through to the disk; hashed on the way."""
    digest, size = hashlib.sha256(), 0
    blocks = [item] if isinstance(item, bytes) else _read_blocks(item)
    with path.open("xb") as stream:
        for block in blocks:
            stream.write(block)
            digest.update(block)
            size += len(block)
        stream.flush()
        os.fsync(stream.fileno())
    return FileRecord(digest.hexdigest(), size)


def _read_blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            yield block


def _swap(new: Path, out: Path) -> None:
    """Give ``new`` the name ``out``; between the two renames :func:`recover_output` knows what to do."""
    old = _sibling(out, "old")
    if out.exists():
        os.rename(out, old)
    try:
        os.rename(new, out)
    except OSError:
        if old.exists():
            os.rename(old, out)
        raise
    _sync_folder(out.parent)
    shutil.rmtree(old, ignore_errors=True)  # the new bundle is in place; the next run tries again


def _sync_folder(folder: Path) -> None:
    if os.name != "nt":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _explain_os_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else str(exc)
        hint = "free some space, or choose another --out" if full else "choose an --out that you may write to"
        raise OutputError(f"{out} cannot be written: {what}", hint) from exc
