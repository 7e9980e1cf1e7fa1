"""The one figure of a variant that a page draws against its latency, and which variants no other one beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgevit.core.report.scores import Accuracy
from edgevit.core.report.task_figures import find_figure
from edgevit.core.target import Budget
from edgevit.core.task import DENSE_TASKS


@dataclass(frozen=True)
class Quality:
    """How faithful a variant is, in the measure that its budget is about.

    Attributes:
        measure: In words.
        unit: ``%``, ``dB``, or empty.
        value: More is better.
        low: Lower end of the 95 % interval; of top-1, the float model's less the interval of the drop.
        high: Its upper end.
        least: What the budget asks for.
    """

    measure: str
    unit: str
    value: float
    least: float
    low: float | None = None
    high: float | None = None


def measure_quality(figures: Accuracy, budget: Budget) -> Quality | None:
    """The figure that the accuracy budget is about; ``None`` where there is none, as of features without noise."""
    embeds = figures.task == "embed"
    top1, reference = figures.top1_percent, figures.reference_top1_percent
    if top1 is not None and reference is not None:
        ends = (
            None if figures.drop_high is None else reference - figures.drop_high,
            None if figures.drop_low is None else min(100.0, reference - figures.drop_low),
        )
        measure = "top-1 of nearest neighbours" if embeds else "top-1"
        return Quality(measure, "%", top1, reference - budget.max_drop_points, *ends)
    if figures.agreement_percent is not None:
        ends = (
            None if figures.agreement_low is None else 100 * figures.agreement_low,
            None if figures.agreement_high is None else 100 * figures.agreement_high,
        )
        least = budget.min_recall if embeds else budget.min_agreement
        measure = "recall@1 against the float model" if embeds else "agreement with the float model"
        return Quality(measure, "%", figures.agreement_percent, 100 * least, *ends)
    if figures.kept is not None:
        key, value = figures.kept
        return Quality(find_figure(key).title, "%", value, 100 * budget.min_kept)
    if figures.cosine_mean is not None:
        return Quality("mean cosine with the float model", "", figures.cosine_mean, budget.min_cosine)
    worst = figures.worst_level
    measure = "SQNR of the worst level" if figures.task in DENSE_TASKS else "SQNR of the answers"
    return None if worst is None else Quality(measure, "dB", worst[1], budget.min_level_sqnr_db)


def find_front(points: Sequence[tuple[float, float] | None]) -> list[bool]:
    """Which points, each a latency and a quality, no other one beats: faster and no worse, or better and no slower."""

    def beats(other: tuple[float, float], point: tuple[float, float]) -> bool:
        return other != point and other[0] <= point[0] and other[1] >= point[1]

    known = [point for point in points if point is not None]
    return [point is not None and not any(beats(other, point) for other in known) for point in points]
