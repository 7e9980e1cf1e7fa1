"""Windows that a ViT's stream holds one after the other, as :mod:`edgevit.models.vit_windows` has them."""

from __future__ import annotations

import numpy as np

from edgevit.checkpoints.onnx_file.patches import Patches
from edgevit.graph.movement import NOWHERE, Index
from edgevit.graph.patterns.pieces import MismatchError


def find_windows(count: int, patches: Patches) -> tuple[int, int]:
    """Windows down and across; ``(1, 1)`` for one.

    Args:
        count: Windows that blocks attend within.
        patches: Tokens in front of the first block.

    Raises:
        MismatchError: They are not those of a grid, or do not begin with the same tokens.
    """
    if count == 1:
        return 1, 1
    height, breadth = patches.grid
    wrong = MismatchError(None, f"its {count} windows are not those of a grid, each behind the same tokens")
    if len(patches.places) % count:
        raise wrong
    places, prefix = patches.places.reshape(count, -1), patches.prefix // count
    fixed = np.full((count, prefix), NOWHERE)
    table = np.arange(height * breadth)
    for down in range(1, count + 1):
        across = count // down
        if count % down or height % down or breadth % across:
            continue
        cut = table.reshape(down, height // down, across, breadth // across).transpose(0, 2, 1, 3)
        if np.array_equal(places, np.concatenate([fixed, cut.reshape(count, -1)], axis=1)):
            return down, across
    raise wrong


def order_windows(patches: Patches, windows: tuple[int, int]) -> Index:
    """Which tokens are one window's constants, and behind them all patches from left to right and top to bottom.

    Raises:
        MismatchError: The constants in front of the patches differ from window to window.
    """
    empty = patches.places == NOWHERE
    fixed = np.flatnonzero(empty).reshape(windows[0] * windows[1], -1)
    constants = patches.constants[fixed]
    if not bool((constants == constants[:1]).all()):
        raise MismatchError(None, "the tokens in front of the patches differ from window to window")
    filled = np.flatnonzero(~empty)
    return np.concatenate([fixed[0], filled[np.argsort(patches.places[filled])]])
