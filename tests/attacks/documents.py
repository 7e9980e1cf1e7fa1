"""Manifests and signatures whose digests fit, whatever they say."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SEED, OTHER_SEED = b"edgevit's tests' key, no secret.", b"the key of somebody else: attack"

Data = dict[str, Any]


def dump(data: Data) -> bytes:
    """A manifest with the digest that fits."""
    data = {key: value for key, value in data.items() if key != "manifest_sha256"}
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return json.dumps({**data, "manifest_sha256": hashlib.sha256(canonical.encode()).hexdigest()}).encode()


def read(folder: Path) -> Data:
    """A manifest as plain data."""
    data: Data = json.loads((folder / "manifest.json").read_bytes())
    return data


def record(content: bytes) -> Data:
    """What a manifest says of a file with this content."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}


def put(folder: Path, name: str, content: bytes, *, engine: bool = False) -> None:
    """Give a bundle a file, and its manifest the hash of it."""
    (folder / name).write_bytes(content)
    data = read(folder)
    data["files"][name] = record(content)
    if engine and name not in data["engine"]["files"]:
        data["engine"]["files"].append(name)
    (folder / "manifest.json").write_bytes(dump(data))


def sign(manifest: bytes, seed: bytes = SEED, domain: bytes = b"edgevit bundle v1\n") -> Data:
    """What ``signature.json`` holds."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    signature = key.sign(domain + manifest).hex()
    return {"algorithm": "ed25519", "public_key": key.public_key().public_bytes_raw().hex(), "signature": signature}


def change_copy(data: Data, change: Callable[[Data], None]) -> Data:
    """The document, changed in one place."""
    data = copy.deepcopy(data)
    change(data)
    return data
