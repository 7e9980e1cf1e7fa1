"""check_signature: whether a bundle is signed with a key that its opener trusts, before anything else of it is read.

Signed are the bytes of ``manifest.json``, which has the hash of every other file. The message begins with words of its
own, so that a signature for something else is none for a bundle. The key in ``signature.json`` proves nothing: it only
tells a bundle that was signed with another key from one that was altered.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from dataclasses import dataclass
from functools import partial
from typing import Any

from edgevit.core.contents import Contents
from edgevit.core.errors import BundleError
from edgevit.core.json_text import parse_json
from edgevit.runtime.key_file import import_cryptography, load_key, read_key

SIGNATURE_FILE = "signature.json"
ALGORITHM = "ed25519"

_DOMAIN = b"edgevit bundle v1\n"
_MOST_BYTES = 4096
_UNTRUSTED = partial(BundleError, code="signature")
_SIGN = "get the bundle from whoever signs it, or open it without asking for a signature where you trust its source"


@dataclass(frozen=True)
class Signature:
    """What ``signature.json`` holds.

    Attributes:
        public_key: Of whoever says to have signed, 32 bytes as hexadecimal digits.
        signature: 64 bytes as hexadecimal digits.
        algorithm: ``ed25519``.
    """

    public_key: str
    signature: str
    algorithm: str = ALGORITHM


def dump_signature(signature: Signature) -> bytes:
    """The content of ``signature.json``."""
    return (json.dumps(dataclasses.asdict(signature), indent=1, sort_keys=True) + "\n").encode()


def write_message(manifest: bytes) -> bytes:
    """What is signed, from the bytes of ``manifest.json``."""
    return _DOMAIN + manifest


def load_public_key(key: str | bytes | os.PathLike[str]) -> Any:
    """An Ed25519 public key, from a PEM file or from its content as bytes.

    Raises:
        EdgevitError: It cannot be read, or is no such key.
        MissingPackageError: cryptography is not installed.
    """
    if isinstance(key, bytes):
        return load_key(key, "the public key", private=False)
    return load_key(read_key(key, "its path, or the PEM as bytes"), str(key), private=False)


def read_signature(contents: Contents) -> Signature | None:
    """A bundle's signature, unchecked; ``None`` where it has none.

    Raises:
        BundleError: It is not of the form that it has to have.
    """
    where, hint = f"{contents.path}: {SIGNATURE_FILE}", "sign the bundle again, or delete that file"
    try:
        if contents.is_irregular(SIGNATURE_FILE):
            raise BundleError(f"{where} is a link, a folder or a device, not a file", hint, code="unsafe")
        data = parse_json(contents.read(SIGNATURE_FILE, _MOST_BYTES), most_levels=1, unique=True)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        raise _UNTRUSTED(f"{where} cannot be read: {exc}", hint) from exc
    if not isinstance(data, dict) or set(data) != {"algorithm", "public_key", "signature"}:
        raise _UNTRUSTED(f"{where} has other keys than algorithm, public_key and signature", hint)
    if data["algorithm"] != ALGORITHM:
        raise _UNTRUSTED(f"{where}: the algorithm is not {ALGORITHM}", hint)
    for key, digits in (("public_key", 64), ("signature", 128)):
        if not isinstance(data[key], str) or not re.fullmatch(rf"[0-9a-f]{{{digits}}}", data[key]):
            raise _UNTRUSTED(f"{where}: {key} is not {digits} hexadecimal digits", hint)
    return Signature(data["public_key"], data["signature"])


def check_signature(contents: Contents, manifest: bytes, key: str | bytes | os.PathLike[str]) -> None:
    """Refuse a bundle that the key did not sign.

    Args:
        contents: The bundle's files.
        manifest: The bytes of its ``manifest.json``, as they will be used.
        key: The public key that is trusted, as a PEM file or its content.

    Raises:
        BundleError: It has no signature, one with another key, or one that does not fit.
        EdgevitError: The key cannot be used.
    """
    trusted = load_public_key(key)
    invalid = import_cryptography("exceptions").InvalidSignature
    found = read_signature(contents)
    if found is None:
        raise _UNTRUSTED(f"{contents.path} is not signed, and a signature is asked for", _SIGN)
    try:
        trusted.verify(bytes.fromhex(found.signature), write_message(manifest))
    except invalid as exc:
        own, said = trusted.public_bytes_raw().hex(), found.public_key
        if said != own:
            message = f"{contents.path} is signed with another key: {said[:16]}…, and {own[:16]}… is asked for"
            raise _UNTRUSTED(message, _SIGN) from exc
        raise _UNTRUSTED(f"{contents.path} was altered after it was signed: its signature does not fit", _SIGN) from exc
