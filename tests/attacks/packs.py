"""Attacks by a packed bundle's zip."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from tests.attacks.zips import Entry, write_zip

Entries = list[Entry]


def _edit(index: int, edit: Callable[[Entry], Entry]) -> Callable[[Entries], bytes]:
    return lambda entries: write_zip([*entries[:index], edit(entries[index]), *entries[index + 1 :]])


def _add(*more: Entry) -> Callable[[Entries], bytes]:
    return lambda entries: write_zip([*entries, *more])


def _tell(**fields: Any) -> Callable[[Entry], Entry]:
    return lambda entry: Entry(entry.name, entry.data, central=fields)


def _deflate(entry: Entry) -> Entry:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(entry.data) + packer.flush()
    true = {"crc": zlib.crc32(entry.data), "size": len(entry.data)}
    return Entry(entry.name, packed).both(method=8, **true)


def _overlap(entries: Entries) -> bytes:
    """The last file begins within the one before it, where it has a header of its own."""
    *first, last = entries
    header = 30
    inner = write_zip([last])[: header + len(last.name) + len(last.data)]
    offset = sum(header + len(entry.name) + len(entry.data) for entry in first[:-1]) + header + len(first[-1].name)
    host = Entry(first[-1].name, inner + first[-1].data)
    ghost = Entry(last.name, last.data, central={"offset": offset})
    return write_zip([*first[:-1], host, ghost])


def _cut(entries: Entries, share: float) -> bytes:
    whole = write_zip(entries)
    return whole[: int(len(whole) * share)]


def _flip_packed(entries: Entries) -> bytes:
    content = bytearray(write_zip(entries))
    weights = next(entry for entry in entries if entry.name == b"model.bin").data
    content[content.index(weights) + len(weights) // 2] ^= 0x80
    return bytes(content)


_MANIFEST, _BIN = 0, 2
ZIPS: dict[str, Callable[[Entries], bytes]] = {
    "zip-is-empty": lambda entries: b"",
    "zip-is-text": lambda entries: b"a packed bundle, which it is not\n" * 100,
    "zip-has-no-manifest": lambda entries: write_zip(entries[1:]),
    "zip-is-cut-early": lambda entries: _cut(entries, 0.01),
    "zip-is-cut-in-half": lambda entries: _cut(entries, 0.5),
    "zip-lacks-its-end": lambda entries: write_zip(entries)[:-22],
    "zip-lacks-its-last-byte": lambda entries: write_zip(entries)[:-1],
    "zip-lacks-a-file": lambda entries: write_zip(entries[:-1]),
    "zip-is-altered": _flip_packed,
    "zip-has-a-further-file": _add(Entry(b"further.bin", b"?")),
    "zip-name-leads-up": _add(Entry(b"../outside.bin", b"?")),
    "zip-name-is-absolute": _add(Entry(b"/etc/hostname", b"?")),
    "zip-name-has-a-backslash": _add(Entry(b"..\\outside.bin", b"?")),
    "zip-name-is-no-text": _add(Entry(b"\xff\xfe", b"?")),
    "zip-name-is-empty": _add(Entry(b"", b"?")),
    "zip-name-is-there-twice": lambda entries: write_zip([*entries, entries[_BIN]]),
    "zip-manifest-is-there-twice": lambda entries: write_zip([*entries, entries[_MANIFEST]]),
    "zip-has-a-link": _edit(_BIN, _tell(attributes=0o120777 << 16)),
    "zip-has-a-device": _edit(_BIN, _tell(attributes=0o020644 << 16)),
    "zip-has-a-folder": _add(Entry(b"below/", b"").both(attributes=0o040755 << 16)),
    "zip-is-compressed": _edit(_BIN, _deflate),
    "zip-is-a-bomb": _add(_deflate(Entry(b"bomb.bin", bytes(10 << 20)))),
    "zip-is-encrypted": _edit(_BIN, lambda entry: entry.both(flags=1)),
    "zip-describes-a-file-after-its-end": _edit(_BIN, lambda entry: entry.both(flags=8)),
    "zip-header-has-another-name": _edit(_BIN, lambda e: Entry(e.name, e.data, local={"name": b"model.xyz"})),
    "zip-header-has-another-size": _edit(_BIN, lambda e: Entry(e.name, e.data, local={"size": 1, "packed": 1})),
    "zip-header-has-another-sum": _edit(_BIN, lambda entry: Entry(entry.name, entry.data, local={"crc": 1})),
    "zip-header-has-another-method": _edit(_BIN, lambda entry: Entry(entry.name, entry.data, local={"method": 8})),
    "zip-sizes-differ": _edit(_BIN, lambda entry: entry.both(size=len(entry.data) + 1)),
    "zip-file-ends-outside": _edit(_BIN, lambda entry: entry.both(size=1 << 30, packed=1 << 30)),
    "zip-file-begins-outside": _edit(_BIN, _tell(offset=1 << 30)),
    "zip-file-is-of-four-gigabytes": _edit(_BIN, lambda entry: entry.both(size=0xFFFFFFFF, packed=0xFFFFFFFF)),
    "zip-files-overlap": _overlap,
    "zip-has-too-many-files": _add(*(Entry(f"file-{i}".encode(), b"") for i in range(80))),
    "zip-directory-is-elsewhere": lambda entries: write_zip(entries, shift=-1),
    "zip-directory-has-more-than-it-says": lambda entries: write_zip(entries, count=len(entries) - 1),
    "zip-directory-has-less-than-it-says": lambda entries: write_zip(entries, count=len(entries) + 1),
}
"""A packed bundle of OpenVINO's, from its files in their order: manifest, canary, weights, IR, recipe, report."""
