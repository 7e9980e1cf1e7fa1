"""Watching a device's sensors while latencies are measured, without a thread and outside of what is timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from edgevit.core.progress import Progress
from edgevit.core.report.conditions import Conditions, Span
from edgevit.measure.machine.sensors import Reading, read_sensors

STAGE = "latency"
"""The stage of :func:`edgevit.measure.latency.measure_latency`; it reports between turns, never in a timed region."""
_LEAST_SECONDS = 0.1


class Watch:
    """A :class:`Progress` that passes everything on, and reads the sensors when a turn of a measurement is over."""

    def __init__(
        self,
        progress: Progress,
        read: Callable[[], Reading] = read_sensors,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress, self._read, self._clock = progress, read, clock
        self._readings: list[tuple[float, Reading]] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Pass a step on; after a turn of a measurement, read the sensors before."""
        if stage == STAGE:
            now = self._clock()
            if not self._readings or done >= total or now - self._readings[-1][0] >= _LEAST_SECONDS:
                self._readings.append((now, self._read()))
        self._progress(stage, done, total)

    @property
    def conditions(self) -> Conditions | None:
        """What was read; ``None`` where nothing was measured or the system tells nothing."""
        return summarize_readings(self._readings)


def summarize_readings(readings: Sequence[tuple[float, Reading]]) -> Conditions | None:
    """Spans over (seconds, reading) pairs; ``None`` where there is nothing in them."""
    if not readings or not any(_has_figures(reading) for _, reading in readings):
        return None
    (start, first), (end, last) = readings[0], readings[-1]
    power = {name: Span(watts, watts, watts) for name, watts in _mean_power(first, last, end - start).items()}
    return Conditions(
        seconds=round(end - start, 3),
        samples=len(readings),
        clocks_mhz=_span([reading.clocks_mhz for _, reading in readings]),
        temperatures_c=_span([reading.temperatures_c for _, reading in readings]),
        power_w={**_span([reading.power_w for _, reading in readings]), **power},
        throttling=_list_throttling([reading for _, reading in readings]),
    )


def _has_figures(reading: Reading) -> bool:
    return any((reading.clocks_mhz, reading.temperatures_c, reading.power_w, reading.energy_j, reading.events))


def _span(tables: Sequence[Mapping[str, float]]) -> dict[str, Span]:
    values: dict[str, list[float]] = {}
    for table in tables:
        for name, value in table.items():
            values.setdefault(name, []).append(value)
    return {name: Span(round(min(v), 3), round(sum(v) / len(v), 3), round(max(v), 3)) for name, v in values.items()}


def _mean_power(first: Reading, last: Reading, seconds: float) -> dict[str, float]:
    """Watts from counters of energy, which begin again at their limit."""
    found = {}
    for name, (begin, limit) in first.energy_j.items():
        if name in last.energy_j and seconds > 0:
            used = last.energy_j[name][0] - begin
            found[name] = round((used if used >= 0 else used + limit) / seconds, 3)
    return found


def _list_throttling(readings: Sequence[Reading]) -> tuple[str, ...]:
    seen = []
    for name, before in readings[0].events.items():
        count = readings[-1].events.get(name, before) - before
        if count > 0:
            seen.append(f"{name} ({count} event{'s' if count > 1 else ''})")
    active = dict.fromkeys(name for reading in readings for name in reading.active)
    return (*seen, *(f"{name} active" for name in active))
