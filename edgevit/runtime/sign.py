"""make_keys, sign_bundle: who makes bundles signs them with a private key; who opens them has only the public one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from edgevit.core.errors import OutputError
from edgevit.runtime.bundle import Bundle, refuse_inside, verify_bundle
from edgevit.runtime.key_file import import_cryptography, load_key, read_key
from edgevit.runtime.manifest import MANIFEST_FILE
from edgevit.runtime.pack_file import replace_file, write_pack
from edgevit.runtime.signature import (
    SIGNATURE_FILE,
    Signature,
    dump_signature,
    write_message,
)

_PRIVATE, _PUBLIC = ".private.pem", ".public.pem"


def make_keys(name: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write a new pair of Ed25519 keys: ``NAME.private.pem``, which only its owner may read, and ``NAME.public.pem``.

    Args:
        name: Path of the files, without these endings.

    Returns:
        Both files, the private one first.

    Raises:
        OutputError: There is no name, one of them is there already, or cannot be written; then neither is made.
        MissingPackageError: cryptography is not installed.
    """
    serialization = import_cryptography("hazmat.primitives.serialization")
    key = import_cryptography("hazmat.primitives.asymmetric.ed25519").Ed25519PrivateKey.generate()
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    if os.path.basename(os.fspath(name)) in ("", ".", ".."):
        raise OutputError("the keys need a name", "give one, such as vendor", code="argument")
    refuse_inside(Path(name))
    files = Path(f"{os.fspath(name)}{_PRIVATE}"), Path(f"{os.fspath(name)}{_PUBLIC}")
    if there := [str(file) for file in files if os.path.lexists(file)]:
        message = f"{' and '.join(there)} would be written over"
        raise OutputError(message, "give the keys another name", code="argument")
    made: list[Path] = []
    try:
        for file, content, mode in zip(files, (private, public), (0o600, 0o644), strict=True):
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
            made.append(file)
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(handle)
    except OSError as exc:
        for file in made:
            with contextlib.suppress(OSError):
                file.unlink()
        raise OutputError(f"{exc.filename or name} cannot be written: {exc.strerror or exc}", "check the path") from exc
    return files


def sign_bundle(path: str | os.PathLike[str], key: str | os.PathLike[str]) -> Signature:
    """Sign a bundle, whose every file is checked first; an earlier signature is replaced.

    Args:
        path: The bundle's folder, which gets ``signature.json``, or a packed bundle, which is written anew.
        key: A private Ed25519 key as a PEM file without a password.

    Returns:
        The signature.

    Raises:
        BundleError: The bundle is damaged, or holds a file that its manifest does not list.
        EdgevitError: The key cannot be used.
        MissingPackageError: cryptography is not installed.
        OutputError: The signature cannot be written.
    """
    private = load_key(read_key(key), str(key), private=True)
    bundle = verify_bundle(path)
    made = _sign(bundle, private)
    packed = bundle.contents.packed
    with replace_file(Path(path).resolve() if packed else Path(path) / SIGNATURE_FILE) as stream:
        if packed:
            write_pack(stream, bundle, dump_signature(made))
        else:
            stream.write(dump_signature(made))
    return made


def _sign(bundle: Bundle, private: Any) -> Signature:
    message = write_message(bundle.contents.read(MANIFEST_FILE))
    return Signature(private.public_key().public_bytes_raw().hex(), private.sign(message).hex())
