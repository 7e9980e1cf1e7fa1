"""hash_image: by which the same image is found again, whatever it is called."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgevit.core.errors import DataError


def hash_image(image: Path | bytes) -> str:
    """SHA-256 of a file or of its bytes, in hexadecimal.

    Raises:
        DataError: It cannot be read.
    """
    if isinstance(image, bytes):
        return hashlib.sha256(image).hexdigest()
    digest = hashlib.sha256()
    try:
        with open(image, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as exc:
        raise DataError(f"{image}: {exc.strerror}", "check the path and its permissions") from exc
    return digest.hexdigest()
