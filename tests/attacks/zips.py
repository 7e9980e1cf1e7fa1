"""Zips written field by field, so that any of them may lie."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A file of a zip: what its local header says, and where the directory says something else.

    Attributes:
        name: As bytes.
        data: What lies there.
        local: Fields of the local header in place of the true ones: flags, method, crc, packed, size, name.
        central: The same for the directory, with ``offset``, ``attributes``, ``extra`` and ``comment``.
    """

    name: bytes
    data: bytes
    local: dict[str, Any] = dataclasses.field(default_factory=dict)
    central: dict[str, Any] = dataclasses.field(default_factory=dict)

    def both(self, **fields: Any) -> Entry:
        """The same lie in both places."""
        return dataclasses.replace(self, local={**self.local, **fields}, central={**self.central, **fields})


def write_zip(entries: Sequence[Entry], *, comment: bytes = b"", shift: int = 0, count: int | None = None) -> bytes:
    """The zip.

    Args:
        entries: In their order.
        comment: At its end.
        shift: Added to where the end says that the directory begins.
        count: In place of the number of entries.
    """
    out, directory = b"", b""
    for entry in entries:
        fields = {
            "flags": 0,
            "method": 0,
            "crc": zlib.crc32(entry.data),
            "packed": len(entry.data),
            "size": len(entry.data),
            "name": entry.name,
            "offset": len(out),
            "attributes": 0o100644 << 16,
            "extra": b"",
            "comment": b"",
        }
        own, told = {**fields, **entry.local}, {**fields, **entry.central}
        out += struct.pack("<4s5H3I2H", b"PK\3\4", 20, *_middle(own), len(own["name"]), 0) + own["name"] + entry.data
        directory += struct.pack("<4s6H3I", b"PK\1\2", 3 << 8 | 20, 20, *_middle(told))
        lengths = (len(told["name"]), len(told["extra"]), len(told["comment"]))
        directory += struct.pack("<5H2I", *lengths, 0, 0, told["attributes"], told["offset"])
        directory += told["name"] + told["extra"] + told["comment"]
    number = len(entries) if count is None else count
    end = (b"PK\5\6", 0, 0, number, number, len(directory), (len(out) + shift) & 0xFFFFFFFF, len(comment))
    return out + directory + struct.pack("<4s4H2IH", *end) + comment


def _middle(fields: dict[str, Any]) -> tuple[Any, ...]:
    names = ("crc", "packed", "size")
    return (fields["flags"], fields["method"], 0, 33, *(fields[name] for name in names))
