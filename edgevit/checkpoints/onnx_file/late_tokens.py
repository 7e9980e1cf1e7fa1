"""Constants that join a ViT's tokens between its blocks, as EoMT's queries do, and what blocks add to all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgevit.checkpoints.onnx_file.encoder import Block
from edgevit.graph.movement import NOWHERE, Index
from edgevit.graph.patterns.pieces import MismatchError, Weights


@dataclass(frozen=True)
class Additions:
    """What comes to a stream between its blocks.

    Attributes:
        block: The one in front of which tokens join; 0 where none do.
        late: ``(Q, C)``: those tokens, in their order in the file.
        shifts: By block, what is added to all of its tokens in the file's order, ``(N, C)``; ``None`` for nothing.
        orders: By block, where each of its tokens in the file stands in the canonical model, which has late ones last.
    """

    block: int
    late: Weights | None
    shifts: tuple[Weights | None, ...]
    orders: tuple[Index, ...]

    @property
    def state(self) -> dict[str, Weights]:
        """Weights by their names in the canonical module."""
        found: dict[str, Weights] = {}
        if self.late is not None:
            found[f"blocks.{self.block}.late_token"] = self.late[None]
        widths = [shift.shape[1] for shift in self.shifts if shift is not None]
        for number in range(1, len(self.orders)) if widths else ():
            order, shift = self.orders[number], self.shifts[number]
            rows = np.zeros((len(order), widths[0]), np.float32) if shift is None else shift[np.argsort(order)]
            found[f"blocks.{number}.pos_embed"] = rows[None]
        return found


def find_additions(blocks: Sequence[Block], order: Index) -> Additions:
    """Follow the tokens from the first block to the last.

    Args:
        blocks: In their order.
        order: Of the tokens in front of the first one.

    Raises:
        MismatchError: Tokens join in more than one place.
    """
    joint, late = 0, None
    shifts: list[Weights | None] = [None]
    orders = [order]
    for number, block in enumerate(blocks[1:], 1):
        shift, before = block.shift, orders[-1]
        if block.places is None or shift is None:
            shifts.append(shift)
            orders.append(before)
            continue
        if joint:
            raise MismatchError(block.attention.context, "tokens join the stream in front of more than one block")
        joins = block.places == NOWHERE
        joint, late = number, shift[joins]
        rest = np.where(joins[:, None], np.float32(0), shift)
        shifts.append(rest if rest.any() else None)
        orders.append(np.where(joins, len(before) + np.cumsum(joins) - 1, before[block.places]))
    return Additions(joint, late, tuple(shifts), tuple(orders))
