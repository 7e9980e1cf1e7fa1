"""read_key, load_key: an Ed25519 key from its file, and what is wrong with one that is none."""

from __future__ import annotations

import importlib
import os
import stat
from functools import partial
from typing import Any

from edgevit.core.errors import EdgevitError, MissingPackageError
from edgevit.core.packages import install_line

_MOST_BYTES = 64 << 10
"""Of a PEM file; one of Ed25519 has some hundred bytes."""
_ASKED = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def read_key(path: object, wanted: str = "a path") -> bytes:
    """A key file's content.

    Args:
        path: As the caller gave it. Only a regular file is read: a device may have no end, and a pipe may never begin.
        wanted: What the caller may give, for the message.

    Raises:
        EdgevitError: It is no path, or no file of at most 64 KiB that can be read.
    """
    if isinstance(path, str) and "-----BEGIN" in path:  # which may be private: it is not repeated
        raise EdgevitError("a key's own text is given where its path is expected", f"give {wanted}", code="argument")
    if not isinstance(path, str | os.PathLike):
        raise EdgevitError(f"{type(path).__name__} is no key", f"give {wanted}", code="argument")
    name, hint = os.fspath(path) or "''", "check the path of the key"
    try:
        handle = os.open(path, os.O_RDONLY | _ASKED)  # not waiting: opening a pipe waits for who writes into it
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise EdgevitError(f"{name} is no regular file", hint, code="argument")
            content = bytearray()
            while len(content) <= _MOST_BYTES and (block := os.read(handle, _MOST_BYTES + 1 - len(content))):
                content += block
        finally:
            os.close(handle)
    except (OSError, ValueError) as exc:
        raise EdgevitError(f"{name}: {getattr(exc, 'strerror', None) or exc}", hint, code="argument") from exc
    if len(content) > _MOST_BYTES:
        raise EdgevitError(f"{name} is no key: it has more than {_MOST_BYTES >> 10} KiB", hint, code="argument")
    return bytes(content)


def load_key(content: bytes, name: str, *, private: bool) -> Any:
    """The key object of the package cryptography.

    Args:
        content: In PEM.
        name: What errors call it.
        private: The kind that is wanted.

    Raises:
        EdgevitError: It is another kind of key, or none.
        MissingPackageError: cryptography is not installed.
    """
    serialization = import_cryptography("hazmat.primitives.serialization")
    kinds = import_cryptography("hazmat.primitives.asymmetric.ed25519")
    wanted = "private" if private else "public"
    give = f"give a {wanted} key that edgevit keygen or openssl wrote (-----BEGIN {wanted.upper()} KEY-----)"
    refuse = partial(EdgevitError, hint=give, code="argument")
    if private and b"-----BEGIN PUBLIC KEY" in content:
        raise refuse(f"{name} is a public key, which is for checking")
    if private and b"ENCRYPTED" in content:
        raise refuse(f"{name} has a password", hint=f"take it off with openssl pkey, or {give}")
    if not private and b"PRIVATE KEY" in content:
        raise refuse(f"{name} is a private key, which is for signing")
    try:
        loaded = (
            serialization.load_pem_private_key(content, password=None)
            if private
            else serialization.load_pem_public_key(content)
        )
    except Exception as exc:  # cryptography raises whatever its parts do
        raise refuse(f"{name} is no {wanted} key in PEM: it {_describe_fault(content)}") from exc
    if not isinstance(loaded, kinds.Ed25519PrivateKey if private else kinds.Ed25519PublicKey):
        raise refuse(f"{name} is a key of another kind than Ed25519")
    return loaded


def import_cryptography(module: str) -> Any:
    """A module of the package cryptography, which only signatures need.

    Raises:
        MissingPackageError: It cannot be imported.
    """
    try:
        return importlib.import_module(f"cryptography.{module}")
    except ImportError as exc:
        raise MissingPackageError(
            f"signatures need cryptography, which cannot be imported: {exc}", install_line("signing")
        ) from exc


def _describe_fault(content: bytes) -> str:
    """What a file is that cryptography does not take as a key in PEM, to go behind "it"."""
    if not content.strip():
        return "is empty"
    if b"OPENSSH PRIVATE KEY" in content or content.lstrip().startswith((b"ssh-", b"ecdsa-", b"sk-")):
        return "is in OpenSSH's own format"
    if b"-----BEGIN CERTIFICATE" in content:
        return "is a certificate"
    if b"-----BEGIN " not in content:
        return "is binary, as a key in DER is" if content.startswith(b"\x30") else "has no line -----BEGIN …"
    if b"-----END " not in content:
        return "is cut: it has no line -----END …"
    return "is damaged, or of another kind than Ed25519"
