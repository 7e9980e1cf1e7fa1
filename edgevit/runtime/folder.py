"""FolderContents: a bundle's files where they lie by themselves; and which names stay inside a bundle."""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
from pathlib import Path, PurePosixPath

from edgevit.core.contents import Contents

_FORBIDDEN = frozenset('\\:\0"<>|?*')


class FolderContents(Contents):
    """The files below a folder; links are not followed, but for the folder itself."""

    packed = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def list_names(self) -> list[str]:
        """See :class:`edgevit.core.contents.Contents`."""
        return list_files(self.path)

    def is_irregular(self, name: str) -> bool:
        """See :class:`edgevit.core.contents.Contents`."""
        return is_irregular(self.path, name)

    def measure(self, name: str) -> int:
        """See :class:`edgevit.core.contents.Contents`."""
        return (self.path / name).lstat().st_size

    def map(self, name: str) -> memoryview:
        """See :class:`edgevit.core.contents.Contents`."""
        with (self.path / name).open("rb") as stream:
            if os.fstat(stream.fileno()).st_size == 0:  # which cannot be mapped
                return memoryview(bytearray())
            return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY))

    def read(self, name: str, most: int | None = None) -> bytes:
        """See :class:`edgevit.core.contents.Contents`."""
        with (self.path / name).open("rb") as stream:
            content = stream.read() if most is None else stream.read(most + 1)
            size = os.fstat(stream.fileno()).st_size
        if most is not None and len(content) > most:
            raise ValueError(f"it has {max(size, len(content))} bytes, and {most} are the most")
        return content

    def hash(self, name: str) -> tuple[str, int]:
        """See :class:`edgevit.core.contents.Contents`; read in blocks, as a mapped file may end under its reader."""
        digest, size = hashlib.sha256(), 0
        with (self.path / name).open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
                size += len(block)
        return digest.hexdigest(), size


def is_safe_name(name: str) -> bool:
    """Whether a name is a plain relative path, below the bundle's folder on every system, and written in one way."""
    path = PurePosixPath(name)
    plain = bool(name) and not path.is_absolute() and ".." not in path.parts and str(path) == name and name != "."
    return plain and not set(name) & _FORBIDDEN and _is_text(name)


def _is_text(name: str) -> bool:
    """JSON can hold halves of characters, which no file system's names have."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_irregular(folder: Path, name: str) -> bool:
    """Whether a name in a folder is anything but a regular file below it: reading such a one may wait for ever.

    Raises:
        OSError: It is not there, or cannot be looked at.
    """
    parts = PurePosixPath(name).parts
    between = [folder.joinpath(*parts[:count]) for count in range(1, len(parts))]
    return any(map(os.path.islink, between)) or not stat.S_ISREG((folder / name).lstat().st_mode)


def list_files(folder: Path) -> list[str]:
    """Paths of all files below a folder; links are not followed."""
    found: list[str] = []
    for root, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        found.extend(Path(root, name).relative_to(folder).as_posix() for name in (*names, *links))
    return sorted(found)
