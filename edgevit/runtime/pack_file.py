"""pack_file, unpack_file: a bundle's folder to one file and back, byte for byte; nothing is compressed.

The same bundle gives the same file, whenever and wherever it is packed: names in order, no dates, no owners. Every file
in it begins at a multiple of 64 bytes, so that what is mapped is aligned for any vector instruction.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edgevit.core.contents import Contents
from edgevit.core.errors import BundleError, OutputError
from edgevit.runtime.bundle import Bundle, load_bundle, refuse_inside, verify_bundle
from edgevit.runtime.manifest import MANIFEST_FILE
from edgevit.runtime.packed import (
    CENTRAL,
    CENTRAL_MARK,
    END,
    END_MARK,
    LOCAL,
    LOCAL_MARK,
    MOST_BYTES,
    MOST_FILES,
    SUFFIX,
    UTF8_FLAG,
    PackedContents,
)
from edgevit.runtime.signature import SIGNATURE_FILE, dump_signature, read_signature

_ALIGNMENT = 64
_PADDING_ID = b"\xbe\xed"
_VERSION, _BY_UNIX = 20, 3 << 8
_DAY, _MODE = 1 << 5 | 1, 0o100644 << 16
"""1980-01-01, the first that a zip knows; a regular file that its owner may write."""
_BLOCK = 1 << 20
_HINT = "choose another --out"
_REMOVE = "remove it, or choose another --out"


def pack_file(path: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Path:
    """Write a bundle as one file, after every file of it was checked.

    Args:
        path: The bundle's folder. A packed bundle is checked and written anew.
        out: The file, which is not there yet. By default the folder's name with ``.edgevit``, beside it, where a packed
            bundle is replaced when the new one is complete.

    Returns:
        The file.

    Raises:
        BundleError: The bundle is damaged, or holds a file that its manifest does not list; its signature is of no form
            that is known; or it has more than 4 GiB.
        OutputError: The file cannot be written, or something else has its name.
    """
    bundle = verify_bundle(path)
    folder = Path(path).resolve()
    own = folder.with_name(f"{folder.name.removesuffix(SUFFIX)}{SUFFIX}")
    out = Path(out) if out is not None else own
    refuse_inside(out)
    refuse_other_file(out)
    if os.path.lexists(out) and out.resolve() != own:
        raise OutputError(f"{out} is there already", _REMOVE, code="argument")
    signature = read_signature(bundle.contents)
    with replace_file(out) as stream:
        write_pack(stream, bundle, dump_signature(signature) if signature is not None else None)
    return out


def unpack_file(
    path: str | os.PathLike[str], out: str | os.PathLike[str], public_key: str | bytes | os.PathLike[str] | None = None
) -> Bundle:
    """Write a packed bundle as a folder, after every file of it was checked.

    Args:
        path: The packed bundle.
        out: The folder, which is not there yet.
        public_key: Of whoever has to have signed it; see :func:`edgevit.runtime.open_bundle`.

    Raises:
        BundleError: It is damaged, or no packed bundle.
        OutputError: The folder cannot be written, or is there.
    """
    bundle, out = verify_bundle(load_bundle(path, public_key=public_key)), Path(out)
    if not bundle.contents.packed:
        raise BundleError(f"{path} is a folder already", "give a file that edgevit pack wrote", code="argument")
    if os.path.lexists(out):
        raise OutputError(f"{out} is there already", _REMOVE, code="argument")
    refuse_inside(out)
    partial = out.with_name(f".{out.name}.edgevit-unpack-{secrets.token_hex(4)}")
    try:
        with _explain(out):
            partial.mkdir(parents=True)
            _write_folder(bundle.contents, partial)
            os.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return verify_bundle(out)


@contextlib.contextmanager
def lend_folder(
    path: str | os.PathLike[str], public_key: str | bytes | os.PathLike[str] | None = None
) -> Iterator[Path]:
    """The bundle as a folder: itself, or what a packed one holds, in a private temporary folder that goes at the end.

    For what has to give paths to other programs or machines; opening an engine needs none. A packed one
    is held against ``public_key`` before it is unpacked; a folder is the caller's to hold against it.

    Raises:
        BundleError: A packed bundle is damaged.
        OutputError: The temporary folder cannot be written.
    """
    if Path(path).is_dir() or not Path(path).exists():  # whose absence the reader explains
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:  # which only its owner may read
        yield unpack_file(path, Path(folder) / Path(path).name.removesuffix(SUFFIX), public_key).path


def write_pack(stream: BinaryIO, bundle: Bundle, signature: bytes | None) -> None:
    """Write a bundle's files and the directory of them; the form is that of docs/bundle.md.

    Args:
        stream: Where to, from its beginning.
        bundle: Whose files were checked.
        signature: The content of ``signature.json``, if it is to have one.

    Raises:
        BundleError: They are too many, or have more than 4 GiB.
    """
    names = sorted({*bundle.manifest.files, *([SIGNATURE_FILE] if signature is not None else [])})
    if len(names) >= MOST_FILES:
        raise BundleError(f"{bundle.path} has more files than the {MOST_FILES} of a packed bundle", "ship the folder")
    directory: list[bytes] = []
    place = 0
    for name in (MANIFEST_FILE, *names):
        content = memoryview(signature) if name == SIGNATURE_FILE and signature else bundle.contents.map(name)
        raw, size = name.encode(), len(content)
        extra = _pad(place + LOCAL.size + len(raw))
        if place + LOCAL.size + len(raw) + len(extra) + size > MOST_BYTES:
            raise BundleError(f"{bundle.path} has more than 4 GiB, which no packed bundle holds", "ship the folder")
        flags, checksum = 0 if name.isascii() else UTF8_FLAG, 0
        for begin in range(0, size, _BLOCK):
            checksum = zlib.crc32(content[begin : begin + _BLOCK], checksum)
        common = (flags, 0, 0, _DAY, checksum, size, size, len(raw))
        stream.write(LOCAL.pack(LOCAL_MARK, _VERSION, *common, len(extra)) + raw + extra)
        stream.write(content)
        kind = (0, 0, 0, 0, _MODE, place)
        directory.append(CENTRAL.pack(CENTRAL_MARK, _BY_UNIX | _VERSION, _VERSION, *common, *kind) + raw)
        place += LOCAL.size + len(raw) + len(extra) + size
    lines = b"".join(directory)
    if place + len(lines) + END.size > MOST_BYTES:
        raise BundleError(f"{bundle.path} has more than 4 GiB, which no packed bundle holds", "ship the folder")
    stream.write(lines + END.pack(END_MARK, 0, 0, len(directory), len(directory), len(lines), place, 0))


@contextlib.contextmanager
def replace_file(out: Path) -> Iterator[BinaryIO]:
    """A stream to a new file, which gets its name when it is complete and on the disk.

    Raises:
        OutputError: It cannot be written.
    """
    partial = out.with_name(f".{out.name}.edgevit-new-{secrets.token_hex(4)}")
    try:
        with _explain(out):
            with partial.open("xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, out)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def refuse_other_file(out: Path) -> None:
    """Refuse to write over what is no packed bundle.

    Raises:
        OutputError: With the path.
    """
    if not os.path.lexists(out):
        return
    try:
        known = out.is_file() and MANIFEST_FILE in PackedContents(out).list_names()
    except BundleError:
        known = False
    if not known:
        raise OutputError(f"{out} is there, and is no packed bundle that can be replaced", _HINT)


def _pad(begin: int) -> bytes:
    """A field of a header that nobody reads, after which a multiple of 64 bytes follows ``begin``."""
    missing = -begin % _ALIGNMENT
    if 0 < missing < 4:
        missing += _ALIGNMENT
    return _PADDING_ID + (missing - 4).to_bytes(2, "little") + bytes(missing - 4) if missing else b""


def _write_folder(contents: Contents, folder: Path) -> None:
    for name in contents.list_names():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as stream:
            stream.write(contents.map(name))
            stream.flush()
            os.fsync(stream.fileno())


@contextlib.contextmanager
def _explain(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise OutputError(f"{out} cannot be written: {reason}", "check the path, its permissions and the disk") from exc
