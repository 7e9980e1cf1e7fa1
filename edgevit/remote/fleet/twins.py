"""compare_twins: whether boards of a kind give the same answers in the same time, and what differs where not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgevit.core.report.place import MARGIN_DB
from edgevit.core.report.report import Ratio
from edgevit.measure.intervals import ratio_of_medians
from edgevit.remote.fleet.facts import compare_facts
from edgevit.remote.fleet.trial import Trial
from edgevit.runtime.canary import measure_sqnr
from edgevit.runtime.session import Outputs

CONFIDENCE = 0.99
"""One pair of equal boards in a hundred is warned of, as far as rounds tell how much a board's latency varies."""
LEAST_RATIO = 1.05
"""Rounds of one run do not tell how much runs vary: less than 5 % between two boards is not warned of."""
_MOST_FACTS = 4


@dataclass(frozen=True)
class TwinComparison:
    """Two boards of one target that tried the same bundle.

    Attributes:
        boards: Their names; the second is held against the first.
        equal_answers: Whether their answers to the canary are the same to the last bit.
        answers_db: SQNR of the second's answers against the first's; ``None`` where they are equal, or where they are
            no finite numbers or have another shape.
        ratio: The second's latency over the first's, each over its own rounds; ``None`` where one was not measured.
        facts: What is recorded of both and differs: the first's value and the second's.
        warnings: A sentence for each difference that matters; empty where the two are as twins should be.
    """

    boards: tuple[str, str]
    equal_answers: bool
    answers_db: float | None = None
    ratio: Ratio | None = None
    facts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def compare_twins(tried: Mapping[str, tuple[Trial, Outputs]]) -> tuple[TwinComparison, ...]:
    """Hold boards of one kind against the one of them whose latency is in the middle, each once.

    So one board that is unlike its twins is in one warning, and not in all.

    Args:
        tried: By the boards' names, what each found with the same bundle, and its answers to the canary.

    Returns:
        A comparison for every board but that one; nothing for a single board.
    """
    if len(tried) < 2:
        return ()
    timed = {name: trial.latency.p50_ms for name, (trial, _) in tried.items() if trial.latency is not None}
    ranked = sorted(timed, key=lambda name: timed[name]) or list(tried)
    middle = ranked[(len(ranked) - 1) // 2]
    return tuple(_compare(middle, name, tried[middle], tried[name]) for name in tried if name != middle)


def _compare(one: str, other: str, first: tuple[Trial, Outputs], second: tuple[Trial, Outputs]) -> TwinComparison:
    (ours, our_answers), (theirs, their_answers) = first, second
    warnings = []
    sqnr_db = _measure_answers(our_answers, their_answers)
    # an engine that does not repeat itself to the last bit cannot be asked to repeat its twin's answers
    own_db = min((t.repeat_db for t in (ours, theirs) if t.repeat_db is not None), default=math.inf)
    if not sqnr_db >= own_db - MARGIN_DB:
        said = f"{sqnr_db:.1f} dB between their answers" if math.isfinite(sqnr_db) else "they cannot be compared"
        causes = compare_facts(ours, theirs, answers=True)
        warnings.append(f"{one} and {other} answer the canary differently ({said}){_tell(causes)}")
    ratio = _measure_ratio(theirs, ours)
    if ratio is not None and not ratio.low <= 1 <= ratio.high and max(ratio.value, 1 / ratio.value) > LEAST_RATIO:
        slower, faster = (other, one) if ratio.value > 1 else (one, other)
        times = max(ratio.value, 1 / ratio.value)
        low, high = sorted((ratio.low, ratio.high)) if ratio.value > 1 else sorted((1 / ratio.high, 1 / ratio.low))
        warnings.append(
            f"{slower} takes {times:.2f} times as long as {faster} (99 % interval {low:.2f}–{high:.2f})"
            f"{_tell(compare_facts(ours, theirs), f'{one} and {other}')}"
        )
    return TwinComparison(
        boards=(one, other),
        equal_answers=sqnr_db == math.inf,
        answers_db=round(sqnr_db, 2) if math.isfinite(sqnr_db) else None,
        ratio=ratio,
        facts=compare_facts(ours, theirs),
        warnings=tuple(warnings),
    )


def _measure_answers(ours: Outputs, theirs: Outputs) -> float:
    """SQNR in dB, ``inf`` for equal answers, ``nan`` where they are of another shape or no finite numbers."""
    finite = all(np.isfinite(array).all() for array in ours)
    same_form = [array.shape for array in ours] == [array.shape for array in theirs]
    return measure_sqnr(ours, theirs) if finite and same_form else math.nan


def _measure_ratio(theirs: Trial, ours: Trial) -> Ratio | None:
    """The boards' rounds are independent, so that it does not matter which are drawn together."""
    rounds = min(len(theirs.round_medians_ms), len(ours.round_medians_ms))
    if rounds == 0:
        return None
    value, low, high = ratio_of_medians(
        theirs.round_medians_ms[:rounds], ours.round_medians_ms[:rounds], confidence=CONFIDENCE
    )
    return Ratio(value, low, high, rounds=rounds, confidence=CONFIDENCE)


def _tell(facts: Mapping[str, tuple[str, str]], whose: str = "") -> str:
    """What may be the cause, the likeliest first."""
    if not facts:
        return "; nothing that is recorded of them differs"
    order = f", of {whose}" if whose else ""
    told = [f"{name} {ours} and {theirs}" for name, (ours, theirs) in list(facts.items())[:_MOST_FACTS]]
    more = f" and {len(facts) - _MOST_FACTS} more (--json lists all)" if len(facts) > _MOST_FACTS else ""
    return f"; what differs{order}: {'; '.join(told)}{more}"
