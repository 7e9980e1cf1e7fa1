"""A Jetson's power modes: which one is set, and whether another has higher clocks."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from edgevit.core.report.conditions import PowerMode

_MODEL = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>")
_GPU_CLOCK = re.compile(r"GPU\s+MAX_FREQ\s+(-?\d+)")
_WATTS = re.compile(r"(\d+)\s*W", re.I)


@dataclass(frozen=True)
class Mode:
    """One paragraph of ``/etc/nvpmodel.conf``.

    Attributes:
        gpu_clock: Largest frequency of the GPU as the file has it, infinite where it sets no limit; ``None`` where it
            says nothing.
    """

    number: int
    name: str
    gpu_clock: float | None = None


def parse_modes(text: str) -> tuple[Mode, ...]:
    """The modes of ``nvpmodel.conf``; comments do not count."""
    modes: list[Mode] = []
    for whole in text.splitlines():
        line = whole.partition("#")[0].strip()
        if found := _MODEL.match(line):
            modes.append(Mode(int(found[1]), found[2]))
        elif modes and (found := _GPU_CLOCK.match(line)):
            value = int(found[1])
            modes[-1] = Mode(modes[-1].number, modes[-1].name, math.inf if value < 0 else value)
    return tuple(modes)


def parse_number(text: str) -> int | None:
    """``pmode:0002`` of ``/var/lib/nvpmodel/status`` to 2."""
    found = re.search(r"pmode:0*(\d+)", text)
    return int(found[1]) if found else None


def choose_mode(number: int, modes: tuple[Mode, ...]) -> PowerMode:
    """The mode that is set, with the one that has the highest clocks where that is another."""
    current = next((mode for mode in modes if mode.number == number), Mode(number, f"mode {number}"))
    ranked = [(rank, mode) for mode in modes if (rank := _rank(mode)) is not None]
    own = _rank(current)
    if own is None or not ranked:
        return PowerMode(current.name, number)
    best_rank, best = max(ranked, key=lambda pair: pair[0])
    if best_rank <= own:
        return PowerMode(current.name, number)
    return PowerMode(current.name, number, best.name, best.number)


def _rank(mode: Mode) -> tuple[float, float] | None:
    """By the GPU's clock, then by the watts in the name; MAXN and its like have no limit."""
    watts = math.inf if mode.name.upper().startswith("MAXN") else None
    if watts is None and (found := _WATTS.search(mode.name)):
        watts = float(found[1])
    if mode.gpu_clock is None and watts is None:
        return None
    clock = mode.gpu_clock if mode.gpu_clock is not None else watts
    assert clock is not None
    return clock, watts or 0.0
