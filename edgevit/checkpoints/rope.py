"""Rotary positions as timm's arguments state them, and the order of channels in which the canonical model turns them.

timm's EVA-02 and Perception Encoder turn channels 2c and 2c + 1 of a head together, DINOv3 c and c + D/2. Scores do not
change where the channels of queries and of keys change places alike, so both have DINOv3's order here, and rows come
before columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from edgevit.models.rotary import make_periods

Size = tuple[int, int]


@dataclass(frozen=True)
class Rope:
    """timm's arguments ``rope_…`` and ``ref_feat_shape``.

    Attributes:
        centred: Coordinates are from -1 to 1 (``rope_type`` ``dinov3``); otherwise patches are counted (``cat``).
        temperature: The longest period over the shortest, almost.
        half: Channels c and c + D/2 are turned together, otherwise 2c and 2c + 1.
        columns_first: The first half of the angles is by column (``rope_grid_indexing`` ``xy``).
        offset: What the count begins with.
        reference: How many patches there are along each side, whatever the grid; ``None`` for as many as the grid has.
    """

    centred: bool = False
    temperature: float = 10000.0
    half: bool = False
    columns_first: bool = False
    offset: float = 0.0
    reference: Size | None = None

    def describe(self, head_width: int) -> dict[str, Any]:
        """Fields of :class:`~edgevit.models.ViTConfig`."""
        periods = make_periods(self.temperature, head_width)
        if self.centred:
            return {"rotary_periods": periods}
        return {
            "rotary_periods": tuple(2 * math.pi * period for period in periods),
            "rotary_start": self.offset,
            "rotary_reference": self.reference,
        }

    def list_channels(self, head_width: int) -> list[int]:
        """Which of timm's channels becomes each canonical one of a head, of which there are a multiple of 4."""
        pairs, quarter = head_width // 2, head_width // 4
        order = [(pair + quarter) % pairs if self.columns_first else pair for pair in range(pairs)]
        if self.half:
            return [*order, *(pair + pairs for pair in order)]
        return [2 * pair + second for second in (0, 1) for pair in order]
