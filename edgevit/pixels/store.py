"""Store: where the files of a set lie that are no files of their own, as the members of tar files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgevit.core.errors import DataError


class Store(Protocol):
    """Files by the names that an image set has for them. It holds places, never contents."""

    def read(self, file: str) -> bytes:
        """A file's bytes.

        Raises:
            DataError: It cannot be read, or what holds it has changed since it was listed.
        """
        ...

    def measure(self, file: str) -> int:
        """A file's size in bytes; errors as :meth:`read`."""
        ...

    def stamp(self, file: str) -> str:
        """Another text where what holds the file was written again, or where it lies elsewhere in it."""
        ...

    def pick(self, files: Sequence[str]) -> Store:
        """A store of these files only."""
        ...


@dataclass(frozen=True)
class Shard:
    """One file that holds many.

    Attributes:
        path: Where it lies.
        name: What the names of its files begin with.
        size_bytes: When it was listed.
        changed_ns: When it had last been written, then.
    """

    path: Path
    name: str
    size_bytes: int
    changed_ns: int

    @classmethod
    def look_at(cls, path: Path, root: Path) -> Shard:
        """A shard as it is now, named relative to ``root``.

        Raises:
            OSError: It cannot be looked at.
        """
        status = os.stat(path)
        return cls(path, path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns)

    @property
    def stamp(self) -> str:
        """Another text after it was written again."""
        return f"{self.name} {self.size_bytes} {self.changed_ns}"

    def require_unchanged(self, status: os.stat_result, file: str) -> None:
        """Raise DataError, which names ``file``, where it is not as it was listed."""
        now = dataclasses.replace(self, size_bytes=status.st_size, changed_ns=status.st_mtime_ns)
        if now != self:
            raise DataError(
                f"{file}: {self.path} has changed since it was listed", "leave it in place while it is read"
            )
