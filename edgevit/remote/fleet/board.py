"""Board: a device of a fleet, and what it is able to do at this moment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from edgevit.core.errors import DeviceError
from edgevit.core.target import Target

State: TypeAlias = Literal["ready", "busy", "hot", "full", "gone", "wrong"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
"""Of a board or a label: a word that fits into a table and a command line."""


@dataclass(frozen=True)
class Board:
    """One device of a fleet.

    Attributes:
        name: By which people call it; no other board of the fleet has it.
        host: What ``ssh`` takes.
        target: What it is.
        labels: Words by which boards are chosen.
    """

    name: str
    host: str
    target: Target
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class BoardState:
    """What a board said when it was asked.

    Attributes:
        state: ``ready``. ``busy``: another edgevit, or something else, is at work there. ``hot``: it is slowed down by
            heat or want of power. ``full``: its disk has no room for the work. ``gone``: it cannot be reached; a little
            later it may be there again. ``wrong``: waiting does not help, as it is not what its target says, lacks
            something, or lets nobody in.
        sentence: What was seen, with the figures.
        hint: What to do about it; empty where the board is ready.
    """

    state: State
    sentence: str
    hint: str = ""


class BoardUnavailable(DeviceError):  # noqa: N818 - it says what the board is, and is no fault of the work
    """A board cannot take work now, or was lost while it had it: wait, or give the work to its twin.

    Attributes:
        board: The board's name.
        state: Why.
    """

    def __init__(self, board: str, state: BoardState) -> None:
        super().__init__(f"{board} is {state.state}: {state.sentence}", state.hint)
        self.board, self.state = board, state

    def __reduce__(self) -> tuple[type[BoardUnavailable], tuple[str, BoardState], dict[str, Any]]:  # type: ignore[override]
        return type(self), (self.board, self.state), {}  # from one process to another, with its state


def is_disk_full(error: DeviceError) -> bool:
    """Whether a device's disk is what failed: whatever finds that there, says how to make room first."""
    return error.hint.startswith("make room on the device")
