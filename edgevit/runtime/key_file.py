"""read_key: a key file's content, and what is wrong with one that is no key."""

from __future__ import annotations

import os
import stat

from edgevit.core.errors import EdgevitError

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


def describe_fault(content: bytes) -> str:
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
