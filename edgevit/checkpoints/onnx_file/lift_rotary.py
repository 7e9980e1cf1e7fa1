"""Rotary positions of a graph as the canonical model states them: periods, found in its tables of cosines and sines.

A file has them for one size of image, so whatever gives these tables is right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevit.checkpoints.onnx_file.encoder import Block
from edgevit.graph.movement import Index
from edgevit.graph.patterns.pieces import MismatchError, Weights
from edgevit.graph.patterns.turned import Turned
from edgevit.models.rotary import make_rotation_table

_SAME = 1e-5  # that two cosines differ by, where patches are in one row
_TOLERANCE = 1e-4  # of the tables; exporters compute angles in float32

Complex = npt.NDArray[np.complex128]


@dataclass(frozen=True)
class _Pair:
    """Two channels that are turned together, and by how much from patch to patch.

    Attributes:
        step: Above 0.
        first: The first patch's angle.
        channels: The one with the sine's sign changed first.
    """

    step: float
    first: float
    channels: tuple[int, int]


def find_turned_blocks(blocks: list[Block]) -> Turned | None:
    """How queries and keys of all blocks are turned; ``None`` where none is.

    Raises:
        MismatchError: Blocks differ.
    """
    first = blocks[0].attention.turned
    for block in blocks:
        other = block.attention.turned
        if (other is None) != (first is None) or (first and other and not first.equals(other)):
            raise MismatchError(block.attention.context, "its queries are not turned as the first block's are")
    return first


def describe_rotary(
    turned: Turned, order: Index, prefix: int, grid: tuple[int, int]
) -> tuple[dict[str, Any], list[int]]:
    """Fields of :class:`~edgevit.models.ViTConfig`, and the file's channel of a head for every canonical one.

    Args:
        turned: The tables.
        order: The file's token for every canonical one.
        prefix: Tokens before the patches.
        grid: Patches down and across.

    Raises:
        MismatchError: The canonical model turns in no such way.
    """
    cos, sin = turned.cos[order], turned.sin[order]
    if not (np.allclose(cos[:prefix], 1, atol=_SAME) and np.allclose(sin[:prefix], 0, atol=_SAME)):
        raise _mismatch(turned, "tokens before the patches are turned")
    rows, columns = _find_pairs(turned, (cos[prefix:] + 1j * sin[prefix:]), grid)
    half = [pair.channels for pair in (*rows, *columns)]
    channels = [channel for place in (0, 1) for channel in (pair[place] for pair in half)]
    height = grid[0]
    lowest = rows[-1]
    start = lowest.first / lowest.step
    steps = [pair.step for pair in rows]
    alike = np.allclose(steps, [pair.step for pair in columns], rtol=1e-3)
    forms: tuple[dict[str, Any], ...] = (
        {"rotary_periods": tuple(4 * math.pi / (height * step) for step in steps)},
        {
            "rotary_periods": tuple(2 * math.pi / step for step in steps),
            "rotary_start": round(start, 3),
            "rotary_reference": None if alike else (height, height),
        },
    )
    wanted = np.stack([cos[:, channels], sin[:, channels]])
    wanted[1, :, : len(half)] *= -1  # the canonical form changes these signs in x, not in the sines
    for fields in forms:
        table = make_rotation_table(
            grid,
            fields["rotary_periods"],
            prefix,
            start=fields.get("rotary_start"),
            reference=fields.get("rotary_reference"),
        )
        if np.abs(table[:, 0].numpy() - wanted).max() <= _TOLERANCE:
            return fields, channels
    raise _mismatch(turned, "its rotary positions are of no form that the canonical model has")


def order_queries(tensors: dict[str, Weights], channels: list[int], heads: int) -> dict[str, Weights]:
    """A block's tensors with the channels of queries and keys in another order, the same in every head."""
    width = len(channels)
    rows = np.array([head * width + channel for head in range(heads) for channel in channels])
    order = np.concatenate([rows, rows + heads * width, np.arange(2 * heads * width, 3 * heads * width)])
    return {name: value[order] if name.startswith("attn.qkv.") else value for name, value in tensors.items()}


def _find_pairs(turned: Turned, table: Complex, grid: tuple[int, int]) -> tuple[list[_Pair], list[_Pair]]:
    """Those that rows turn and those that columns turn, the fastest first."""
    height, width = grid
    if min(grid) < 2:
        raise _mismatch(turned, "rotary positions of a single row or column of patches are ambiguous")
    found: tuple[list[_Pair], list[_Pair]] = ([], [])
    for one, other in enumerate(turned.partner.tolist()):
        if turned.partner[other] != one or one == other:
            raise _mismatch(turned, "channels are not turned in pairs")
        if one > other:
            continue
        # sin[n, other] is the sine where ``one`` comes first.
        points = (table[:, one].real + 1j * table[:, other].imag).reshape(height, width)
        if np.abs(table[:, one] - table[:, other].conj()).max() > _SAME:
            raise _mismatch(turned, "two channels are turned by different angles")
        along = [float(np.abs(points - points[:1]).max()), float(np.abs(points - points[:, :1]).max())]
        axis = int(along[1] > along[0])
        if along[1 - axis] > _SAME:
            raise _mismatch(turned, "an angle depends on row and column")
        found[axis].append(_measure(points[:, 0] if axis == 0 else points[0], (one, other)))
    rows, columns = (sorted(pairs, key=lambda pair: -pair.step) for pairs in found)
    if len(rows) != len(columns) or rows[-1].step < 1e-9 or columns[-1].step < 1e-9:
        raise _mismatch(turned, "rows and columns do not turn as many channels each")
    return rows, columns


def _measure(line: Complex, channels: tuple[int, int]) -> _Pair:
    """Step and first angle of points that follow one another."""
    count = len(line) - 1
    step = float(np.angle((line[1:] * line[:-1].conj()).mean()))
    total = float(np.angle(line[-1] * line[0].conj()))  # less noise, and whole turns less
    step = (total + 2 * math.pi * round((step * count - total) / (2 * math.pi))) / count
    first = float(np.angle(line[0]))
    return _Pair(step, first, channels) if step >= 0 else _Pair(-step, -first, channels[::-1])


def _mismatch(turned: Turned, reason: str) -> MismatchError:
    return MismatchError(turned.source.producer(), reason)
