"""A session that moves the clock by which it is timed."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator

import numpy as np

from edgevit.runtime.session import Session


class Clock:
    """Nanoseconds, moved by the sessions that share it."""

    def __init__(self) -> None:
        self.now = 0
        self.calls: list[str] = []

    def __call__(self) -> int:
        return self.now


class FakeSession(Session):
    """Takes the given milliseconds, one after the other and over again."""

    def __init__(self, clock: Clock, name: str, *milliseconds: float) -> None:
        self.clock, self.name, self.settings, self.streams = clock, name, {"threads": 2}, 3
        self.times: Iterator[float] = itertools.cycle(milliseconds)
        self.collecting: set[bool] = set()

    def run_outputs(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        self.clock.now += round(next(self.times) * 1e6)
        self.clock.calls.append(self.name)
        self.collecting.add(gc.isenabled())
        return (np.zeros((len(batch), 2), np.float32),)
