"""Variant and Verdict: the engines that a build made or tried, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgevit.core.report.scores import Accuracy, Parity
from edgevit.core.report.timings import ColdStart, EndToEnd, Latency, Ratio, Throughput

Status = Literal[
    "CHOSEN",
    "WITHIN BUDGET",
    "SLOWER",
    "TOO SLOW",
    "ACCURACY DROP",
    "PARITY FAILED",
    "NOT SUPPORTED",
    "NOT MEASURED",
]


@dataclass(frozen=True)
class Variant:
    """One engine that a build made or tried.

    Attributes:
        name: In the table.
        precision: ``fp32``, ``fp16``, ``int8`` or ``fp8``.
        size_bytes: Of the engine's files.
        latency: Of one call, where it was measured.
        accuracy: On validation images: what the table shows.
        choice_accuracy: On calibration images: what the choice was made by.
        ratio: Its latency over the first variant's.
        cold_start: What a fresh process pays, where that was measured.
        throughput: With several callers at once, where that was measured.
        parity: Whether it computes what the module computes, where that was checked.
        end_to_end: From an image file to the answer, where that was measured.
        status: What the choice made of it.
        reason: Why it has its status.
    """

    name: str
    precision: str
    size_bytes: int
    latency: Latency | None = None
    ratio: Ratio | None = None
    cold_start: ColdStart | None = None
    throughput: Throughput | None = None
    accuracy: Accuracy | None = None
    choice_accuracy: Accuracy | None = None
    parity: Parity | None = None
    end_to_end: EndToEnd | None = None
    status: Status = "NOT MEASURED"
    reason: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a build came to.

    Attributes:
        chosen: Name of the variant to pack; ``None`` where none computes what the module computes.
        passed: Whether the budget was kept, as far as it could be judged.
        sentence: The result and its evidence.
        warnings: What weakens the evidence.
        next_step: What to try.
    """

    chosen: str | None
    passed: bool
    sentence: str
    warnings: tuple[str, ...] = ()
    next_step: str | None = None
