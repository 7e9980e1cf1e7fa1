"""Trial: what one board found when it tried a bundle, in its own words and figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgevit.core.report.conditions import Conditions
from edgevit.core.report.figures import Figures
from edgevit.core.report.machine import Machine
from edgevit.core.report.place import Place
from edgevit.core.report.report import Latency
from edgevit.measure.intervals import ratio_of_medians
from edgevit.runtime.canary import CanaryCheck

ANSWERS_FILE = "answers.npz"
"""What comes back with a trial: the engine's answers to the canary, an array for each output by its index."""


@dataclass(frozen=True)
class Trial(Figures):
    """A bundle on a board.

    Attributes:
        machine: The board, as it was before anything was measured.
        place: Everything there that may change an answer.
        canary: Whether the engine answers as where it was judged.
        repeat_db: SQNR of the canary's answers when they were asked for again, against the first ones; ``None`` where
            they were the same to the last bit, as most engines' are.
        latency: Of one call; ``None`` where the canary failed.
        round_medians_ms: Medians of the rounds in which it was measured.
        conditions: Clocks, temperatures, power and throttling meanwhile.
    """

    machine: Machine
    place: Place
    canary: CanaryCheck
    repeat_db: float | None = None
    latency: Latency | None = None
    round_medians_ms: tuple[float, ...] = ()
    conditions: Conditions | None = None

    @property
    def interval_ms(self) -> tuple[float, float] | None:
        """The 95 % interval of the median call, over rounds; ``None`` where nothing was measured."""
        if not self.round_medians_ms:
            return None
        _, low, high = ratio_of_medians(self.round_medians_ms, np.ones(len(self.round_medians_ms)))
        return low, high
