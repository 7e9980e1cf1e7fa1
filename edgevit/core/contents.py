"""Contents: the files of a bundle, in a folder or within one packed file.

Only the standard library, because an engine may lie within such a file (``Engine.contents``).
"""

from __future__ import annotations

import abc
import hashlib
from pathlib import Path

_BLOCK = 1 << 20


class Contents(abc.ABC):
    """Files by their names, which are plain relative paths with ``/`` between their parts.

    Attributes:
        path: The folder, or the packed file.
        packed: Whether it is one file: then nothing in it has a path of its own to open.
    """

    path: Path
    packed: bool

    @abc.abstractmethod
    def list_names(self) -> list[str]:
        """All files, sorted; whatever they are."""

    @abc.abstractmethod
    def is_irregular(self, name: str) -> bool:
        """Whether a name is anything but a regular file of the bundle's own: reading such a one may wait for ever.

        Raises:
            OSError: It is not there, or cannot be looked at.
        """

    @abc.abstractmethod
    def measure(self, name: str) -> int:
        """The size of a file in bytes.

        Raises:
            OSError: It is not there, or cannot be looked at.
        """

    @abc.abstractmethod
    def map(self, name: str) -> memoryview:
        """A file's bytes where they lie, without reading them; what is written there changes no file.

        Raises:
            OSError: It is not there, or cannot be read.
        """

    def read(self, name: str, most: int | None = None) -> bytes:
        """A file's bytes.

        Raises:
            OSError: It is not there, or cannot be read.
            ValueError: It has more than ``most`` bytes.
        """
        size = self.measure(name)
        if most is not None and size > most:
            raise ValueError(f"it has {size} bytes, and {most} are the most")
        return bytes(self.map(name))

    def hash(self, name: str) -> tuple[str, int]:
        """SHA-256 and size of a file.

        Raises:
            OSError: It is not there, or cannot be read.
        """
        digest, view = hashlib.sha256(), self.map(name)
        for begin in range(0, len(view), _BLOCK):
            digest.update(view[begin : begin + _BLOCK])
        return digest.hexdigest(), len(view)
