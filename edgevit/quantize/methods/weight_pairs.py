"""Weights whose products with u8 activations do not overflow 16 bits, for processors without VNNI.

Before VNNI a product of u8 and i8 is ``vpmaddubsw``: the products of two neighbouring input channels are added in 16
bits, and a sum beyond them becomes the largest number. 255·(a + b) stays inside while a + b is within −128 … 128. So
two neighbours of one sign share that limit, and two of different signs have none but their own. Other tools keep seven
bits for every weight, which is the same for two equal ones, and takes more from a large one beside a small one than it
has to.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Codes: TypeAlias = "npt.NDArray[np.floating]"

PAIR_LIMIT = 128
"""Of the sum of two neighbours' codes: 255·128 = 32640, and 16 bits end at 32767."""
_CODE_LIMIT = 127


def limit_pairs(codes: Codes) -> Codes:
    """Codes ``(K, N)`` whose pairs ``(2i, 2i + 1)`` of rows are within the limit: what is over is shared evenly."""
    result = codes.copy()
    even = len(codes) // 2 * 2
    first, second = codes[0:even:2], codes[1:even:2]
    alike = first * second > 0
    for place, other in ((0, second), (1, first)):
        own = codes[place:even:2]
        most = np.where(alike, np.maximum(PAIR_LIMIT / 2, PAIR_LIMIT - np.abs(other)), _CODE_LIMIT)
        result[place:even:2] = np.clip(own, -most, most)
    return result


def bound_code(
    other: npt.NDArray[np.floating], *, done: bool
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """Least and largest code beside a neighbour, ``(N,)`` each.

    Args:
        other: ``(N,)``: the neighbour's code, or what it would like to be.
        done: Whether it is its code; otherwise half of the limit is left to it.
    """
    least_share = 0 if done else PAIR_LIMIT / 2
    rest = np.maximum(least_share, PAIR_LIMIT - np.floor(np.abs(other)))
    most = np.minimum(rest, _CODE_LIMIT)
    return np.where(other < 0, -most, -_CODE_LIMIT), np.where(other > 0, most, _CODE_LIMIT)
