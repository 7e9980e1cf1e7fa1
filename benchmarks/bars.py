"""The bars of the INT8 benchmark as data, and what the figures say about them.

Results are plain data, as in ``results/int8.json``: a row a model, with the sections ``accuracy`` (by engine),
``latency`` and ``cost``. A figure is ``{"value": …, "low": …, "high": …}``, the last two where it has an interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

OURS, SYMMETRIC = "ours", "ours, symmetric for TensorRT"
NNCF = "NNCF"
"""Every NNCF engine's name begins with it."""

NNCF_BEST = "NNCF's best"
"""As a limit: the largest figure of NNCF's engines in the same run."""


@dataclass(frozen=True)
class Bar:
    """What a figure must reach.

    Attributes:
        model: Row of the results.
        path: Keys from the row to the figure.
        label: For people, with the unit.
        relation: Of the figure to the limit.
        limit: A number, or ``NNCF_BEST``.
    """

    model: str
    path: tuple[str, ...]
    label: str
    relation: Literal["≥", "≤", ">"]
    limit: float | str


@dataclass(frozen=True)
class Outcome:
    """A bar and what was measured.

    Attributes:
        value: ``None`` where it was not measured.
        limit: The number; ``None`` where it is a peer's that was not measured.
    """

    bar: Bar
    value: float | None
    low: float | None
    high: float | None
    limit: float | None

    @property
    def status(self) -> str:
        """``met``, ``MISSED`` or ``not measured``; by the estimate, not by the ends of its interval."""
        if self.value is None or self.limit is None:
            return "not measured"
        met = {"≥": self.value >= self.limit, "≤": self.value <= self.limit, ">": self.value > self.limit}
        return "met" if met[self.bar.relation] else "MISSED"


_DEIT, _SWIN = "deit_tiny_imagenet", "swin_imagenette"
_SMALL, _BASE, _SWIN_T = "deit_small_patch16_224", "vit_base_patch16_224", "swin_tiny_patch4_window7_224"

BARS = (
    Bar(_DEIT, ("accuracy", OURS, "agreement_percent"), "agreement, %", "≥", 99.0),
    Bar(_DEIT, ("accuracy", OURS, "sqnr_db"), "logit SQNR, dB", "≥", 24.0),
    Bar(_DEIT, ("accuracy", OURS, "drop_points"), "top-1 drop, points", "≤", 0.34),
    Bar(_DEIT, ("accuracy", SYMMETRIC, "agreement_percent"), "symmetric: agreement, %", "≥", 98.5),
    Bar(_DEIT, ("accuracy", SYMMETRIC, "sqnr_db"), "symmetric: logit SQNR, dB", "≥", 23.0),
    Bar(_DEIT, ("accuracy", SYMMETRIC, "drop_points"), "symmetric: top-1 drop, points", "≤", 0.34),
    Bar(_SWIN, ("accuracy", OURS, "agreement_percent"), "agreement, %", "≥", 98.5),
    Bar(_SWIN, ("accuracy", OURS, "agreement_percent"), "agreement, %", ">", NNCF_BEST),
    Bar(_SWIN, ("accuracy", OURS, "sqnr_db"), "logit SQNR, dB", ">", NNCF_BEST),
    Bar(_DEIT, ("latency", "ratio"), "latency over NNCF default", "≤", 0.82),
    Bar(_SMALL, ("latency", "ratio"), "latency over NNCF default", "≤", 0.80),
    Bar(_BASE, ("latency", "ratio"), "latency over NNCF default", "≤", 0.85),
    Bar(_SWIN_T, ("latency", "ratio"), "latency over NNCF default", "≤", 0.80),
    Bar(_SMALL, ("cost", "seconds_ratio"), "time to quantise over NNCF default", "≤", 2.0),
    Bar(_SMALL, ("cost", "memory_ratio"), "peak memory to quantise over NNCF default", "≤", 1.0),
    Bar(_BASE, ("cost", "seconds_ratio"), "time to quantise over NNCF default", "≤", 2.0),
    Bar(_BASE, ("cost", "memory_ratio"), "peak memory to quantise over NNCF default", "≤", 1.0),
)


def judge_bars(rows: Mapping[str, Mapping[str, Any]], bars: tuple[Bar, ...] = BARS) -> tuple[Outcome, ...]:
    """Compare every bar with the figures.

    Args:
        rows: By model.
        bars: The table.
    """
    return tuple(_judge(bar, rows.get(bar.model, {})) for bar in bars)


def _judge(bar: Bar, row: Mapping[str, Any]) -> Outcome:
    figure = _find(row, bar.path) or {}
    limit = _find_best(row, bar.path) if isinstance(bar.limit, str) else bar.limit
    return Outcome(bar, figure.get("value"), figure.get("low"), figure.get("high"), limit)


def _find(row: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any] | None:
    found: Any = row
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _find_best(row: Mapping[str, Any], path: tuple[str, ...]) -> float | None:
    section, _, name = path
    peers = [engine for engine in row.get(section, {}) if engine.startswith(NNCF)]
    figures = [_find(row, (section, peer, name)) for peer in peers]
    return max((f["value"] for f in figures if f is not None), default=None)
