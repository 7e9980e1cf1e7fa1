"""Which products of matrices an emulated Arm processor executed, from qemu's listing of translated code."""

from __future__ import annotations

import collections
import re
from pathlib import Path

# Arm Architecture Reference Manual, "Advanced SIMD": masks and values of the encodings, vector by vector and by element
_ENCODINGS = {
    "udot": ((0xFFE0FC00, 0x6E809400), (0xFFC0F400, 0x6F80E000)),
    "sdot": ((0xFFE0FC00, 0x4E809400), (0xFFC0F400, 0x4F80E000)),
    "usdot": ((0xFFE0FC00, 0x4E809C00),),
    "ummla": ((0xFFE0FC00, 0x6E80A400),),
    "smmla": ((0xFFE0FC00, 0x4E80A400),),
    "usmmla": ((0xFFE0FC00, 0x4E80AC00),),
    "bfmmla": ((0xFFE0FC00, 0x6E40EC00),),
    "bfdot": ((0xFFE0FC00, 0x6E40FC00),),
    "fmla 8h": ((0xFFE0FC00, 0x4E400C00), (0xFFC0F400, 0x4F001000)),
    "fmla 4s": ((0xFFE0FC00, 0x4E20CC00), (0xFFC0F400, 0x4F801000)),
}
_LINE = re.compile(r"0x[0-9a-f]+:\s+([0-9a-f]{8})\b")


def count_instructions(listing: Path) -> dict[str, int]:
    """Places of the code that was executed, by instruction; without those that do not occur."""
    found: collections.Counter[str] = collections.Counter()
    with listing.open(errors="replace") as stream:
        for match in filter(None, map(_LINE.match, stream)):
            word = int(match[1], 16)
            found.update(name for name, forms in _ENCODINGS.items() if any(word & m == v for m, v in forms))
    return dict(found)
