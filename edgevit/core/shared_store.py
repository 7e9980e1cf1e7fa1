"""SharedStore: finished stages in a place that other machines see too, one archive each, through fsspec.

It saves time and is never an error: where it cannot be read or written, the build is told once and goes on without it.
Nothing is ever removed from it but what this process put there half, and there are no locks in it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from edgevit.core.errors import MissingPackageError, OutputError
from edgevit.core.packages import require_package
from edgevit.core.stage_archive import ArchiveError, read_archive, write_archive

SHARED_VARIABLE = "EDGEVIT_SHARED_CACHE"

_WHOLE_PUTS = frozenset(("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "tos"))
"""Object stores: what is put there appears whole or not at all. They have no folders to make, and moving is copying."""


class SharedStore:
    """Archives of finished stages, at ``URL/STAGE/KEY.tar``.

    Args:
        url: What fsspec opens, such as ``s3://bucket/prefix``; or a folder.
        note: Told, a sentence each, what is not used and why.

    Raises:
        MissingPackageError: fsspec is not installed, or what it needs for such a place.
        OutputError: fsspec knows no such place.
    """

    def __init__(self, url: str, note: Callable[[str], None]) -> None:
        self.url = url if "://" in url or "::" in url else os.path.abspath(os.path.expanduser(url))
        self._note = note
        self._readable = self._writable = True
        self._damaged: set[str] = set()
        self._fsspec = _import_fsspec(self.url)

    @property
    def remaining_url(self) -> str:
        """For a process that this build starts: empty where the store cannot be read, which it need not find out."""
        return self.url if self._readable else ""

    def fetch(self, name: str, folder: Path) -> bool:
        """Whether the store has a stage: then it lies, whole, in an empty folder of this process."""
        if not self._readable:
            return False
        try:
            with ExitStack() as stack:
                source = _Source(stack, self._connect, f"{name}.tar")
                read_archive(source, folder, name, most_bytes=shutil.disk_usage(folder).free)
        except _StoreError as exc:
            if not isinstance(exc.__cause__, FileNotFoundError):
                self._readable = self._writable = False
                self._tell("cannot be read, and this build goes on without it", exc.__cause__)
            return False
        except ArchiveError as exc:
            self._damaged.add(name)
            self._tell(f"has a {name}.tar that is not used", exc)
            return False
        return True

    def put(self, name: str, folder: Path, scratch: Path) -> None:
        """Add a finished stage, unless another build has, with an empty folder of this process for its archive."""
        if not self._writable:
            return
        try:
            archive = scratch / "archive.tar"
            files, root = self._connect()
            final = f"{root}/{name}.tar"
            if name not in self._damaged and files.exists(final):
                return
            with archive.open("wb") as stream:
                write_archive(folder, stream)
            self._put_whole(files, str(archive), final, replace=name in self._damaged)
        except Exception as exc:  # each kind of store has errors of its own
            self._writable = False
            self._tell("cannot be written, and nothing more of this build is put there", exc)

    def _put_whole(self, files: Any, archive: str, final: str, *, replace: bool) -> None:
        kinds = (files.protocol,) if isinstance(files.protocol, str) else files.protocol
        if _WHOLE_PUTS.intersection(kinds):
            files.put_file(archive, final)
            return
        folder, _, name = final.rpartition("/")
        half = f"{folder}/.{name}.{secrets.token_hex(4)}"
        files.makedirs(folder, exist_ok=True)
        try:
            files.put_file(archive, half)
            if replace:  # some stores move nothing onto what is there
                with suppress(FileNotFoundError):
                    files.rm_file(final)
            files.mv(half, final)
        except BaseException:
            with suppress(Exception):
                files.rm_file(half)
            raise

    def _connect(self) -> tuple[Any, str]:
        files, root = self._fsspec.core.url_to_fs(self.url)
        return files, root.rstrip("/")

    def _tell(self, what: str, why: BaseException | None) -> None:
        reason = " ".join(f"{why}".split())[:200] or type(why).__name__
        self._note(hide_password(f"the shared cache {self.url} {what}: {reason}"))


class _StoreError(Exception):
    """The store, not the archive: its cause says what."""


class _Source:
    """An archive of a store, whose errors are told from those of this machine's disk."""

    def __init__(self, stack: ExitStack, connect: Callable[[], tuple[Any, str]], name: str) -> None:
        try:
            files, root = connect()
            self._stream = stack.enter_context(files.open(f"{root}/{name}", "rb"))
        except Exception as exc:  # each kind of store has errors of its own
            raise _StoreError from exc

    def read(self, count: int) -> bytes:
        try:
            content: bytes = self._stream.read(count)
        except Exception as exc:
            raise _StoreError from exc
        return content


def hide_password(text: str) -> str:
    """A text without what stands before the host of addresses in it."""
    return re.sub(r"(?<=://)[^/@\s]*@", "…@", text)


def _import_fsspec(url: str) -> Any:
    fsspec = require_package("fsspec", "a shared cache", "sweep")
    protocol = fsspec.core.split_protocol(url.partition("::")[0])[0] or "file"
    title = f"the shared cache {hide_password(url)}"
    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError as exc:
        raise OutputError(
            f"{title} is of no kind that fsspec knows", f"set {SHARED_VARIABLE} to s3://, gs:// or a folder"
        ) from exc
    except ImportError as exc:
        raise MissingPackageError(
            f"{title} needs a package that is not installed: {exc}", f"install it, or unset {SHARED_VARIABLE}"
        ) from exc
    return fsspec
