"""choose_variant: which variant is packed and why the others lost, as facts; ``write.py`` puts them into sentences.

The order of the rules:

1. A variant that does not compute what the module computes is out (``PARITY FAILED``).
2. So is one that costs more accuracy than the budget allows (``ACCURACY DROP``); the choice is made by figures from
   calibration images where there are any, the verdict judges the chosen one by validation images. Top-1 counts where
   there are labels, agreement with the float model where there are none. Of embeddings the mean cosine counts too, and
   top-1 is that of the nearest neighbours' labels; of features and whole models the SQNR of the worst level counts,
   and where the task is known how much of the float model's answers is kept.
   Where the chosen one misses the budget on these, a float variant that has passed parity takes its place: that it is
   the model needs no choice among images. Faster ones that have not passed parity are then out as well. Where there is
   none, the verdict has not passed.
3. So is one whose median latency is over the budget's (``TOO SLOW``).
4. Of the rest those count as the fastest whose latency ratio to none of the others has an interval above 1: they
   cannot be told apart. Of these the smallest wins, and of equally small ones the first in the target's order of
   precisions and in the table's.
5. Where no latency was measured, the first of the target's order of preference wins, marked as not measured; where it
   misses the budget on validation images, the first float variant as in rule 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from edgevit.build.precisions import FLOAT_PRECISIONS
from edgevit.build.verdict.sentences import (
    describe_win,
    format_agreement,
    format_ratio,
    format_share,
    get_least_agreement,
    name_agreement,
    name_top1,
)
from edgevit.core.report.report import Accuracy, Ratio, Status, Variant
from edgevit.core.report.task_figures import find_figure
from edgevit.core.target import Budget

PairRatio: TypeAlias = Callable[[str, str], Ratio]
"""Latency of one variant over that of another, as :meth:`LatencyComparison.ratio` gives it."""

_ROUNDING = 1e-9
_CLEAR_TIE = 1.1  # an interval wider than this from end to end could hide a difference that somebody would care about

Cause: TypeAlias = Literal["fastest", "only one", "first in order", "exact", "too slow", "late miss", "closest", "none"]


@dataclass(frozen=True)
class Ruling:
    """What the figures of a build came to.

    Attributes:
        variants: With status and reason, in the order of the table.
        cause: ``fastest``: of those within the budget. ``only one``: that was tried. ``first in order``: in the
            target's order of precisions, as nothing was measured. ``exact``: in float, in place of ``beaten``.
            ``too slow``: the fastest is over the latency budget. ``late miss``: outside the accuracy budget on
            validation images. ``closest``: to the accuracy budget, which all miss. ``none``: computes what the model
            computes.
        budget: What a variant may cost.
        best: The chosen one of ``variants``; ``None`` where the cause is ``none``.
        beaten: What was chosen by calibration images, and missed the budget on validation images.
        blurred: Ties that say more about the noise than about the variants: each with its latency ratio to ``best``.
    """

    variants: tuple[Variant, ...]
    cause: Cause
    budget: Budget
    best: Variant | None = None
    beaten: Variant | None = None
    blurred: tuple[tuple[str, Ratio], ...] = ()

    @property
    def chosen(self) -> str | None:
        """The name of the chosen variant."""
        return None if self.best is None else self.best.name

    @property
    def passed(self) -> bool:
        """Whether the budget was kept, as far as it was judged."""
        return self.cause in ("fastest", "only one", "first in order", "exact")


def choose_variant(
    variants: Sequence[Variant],
    budget: Budget,
    *,
    preference: Sequence[str] = (),
    ratio: PairRatio | None = None,
) -> Ruling:
    """Judge the variants of a build and choose one.

    Args:
        variants: In the table's order, the baseline first; one that is ``NOT SUPPORTED`` keeps its status and reason,
            and one without a latency may say why in its reason.
        budget: What the chosen one may cost.
        preference: Precisions, the most wanted first, for where nothing was measured or all else is equal.
        ratio: Latency ratio of two variants by name. Without it, those whose ratios to the baseline have overlapping
            intervals count as equally fast; without these either, every difference of medians counts as real.

    Returns:
        The variants with status and reason, and which is chosen and why. Where all miss the budget it is the one that
        comes closest, and has not passed; where none passes parity, it is none.

    Raises:
        ValueError: Two variants have the same name.
    """
    judged = {v.name: _judge(v, budget) for v in variants}
    if len(judged) != len(variants):
        raise ValueError("two variants have the same name")
    usable = [v for v in judged.values() if v.status not in ("NOT SUPPORTED", "PARITY FAILED")]
    within = [v for v in usable if v.status != "ACCURACY DROP"]
    if not usable:
        return Ruling(tuple(judged.values()), "none", budget)
    if not within:
        best = min(usable, key=_accuracy_loss)
        judged[best.name] = best = replace(best, reason=f"{best.reason}; comes closest")
        return Ruling(tuple(judged.values()), "closest", budget, best)
    rank = {precision: i for i, precision in enumerate(preference)}
    measured = [v for v in within if v.latency is not None]
    pool = measured or within
    fast = [v for v in measured if _keeps_latency(v, budget)] if measured else within
    best, same = _pick(fast or pool, rank, ratio)
    late_miss = find_late_miss(best, budget)
    exact = [v for v in fast if _is_exact(v, budget)]
    beaten = None
    if late_miss and exact:
        judged[best.name] = beaten = _drop(best, f"{late_miss} on validation images")
        best, same = _pick(exact, rank, ratio)
        rest = [v for v in pool if v.name != beaten.name and v not in exact]
        for variant in rest:
            if miss := find_late_miss(variant, budget):
                judged[variant.name] = _drop(variant, f"{miss} on validation images")
            elif measured:  # it may be faster, and may not take its place either
                judged[variant.name] = replace(variant, status="NOT MEASURED", reason="parity was not checked")
        pool = exact if measured else [v for v in pool if find_late_miss(v, budget) is None]
    for variant in pool:
        judged[variant.name] = _explain(variant, best, same, pool, budget, ratio)
    return _conclude(judged, best, budget, _find_blurred(best, same, ratio), beaten)


def _drop(variant: Variant, reason: str) -> Variant:
    return replace(variant, status="ACCURACY DROP", reason=reason)


def _judge(variant: Variant, budget: Budget) -> Variant:
    """Rules 1 and 2."""
    if variant.status == "NOT SUPPORTED":
        return variant
    if variant.parity is not None and not variant.parity.passed:
        return replace(variant, status="PARITY FAILED", reason=variant.parity.reason)
    figures, where = variant.choice_accuracy, "calibration"
    if figures is None:
        figures, where = variant.accuracy, "validation"
    miss = None if figures is None else find_miss(figures, budget)
    if miss is not None:
        return _drop(variant, f"{miss} on {where} images")
    return replace(variant, status="NOT MEASURED", reason=variant.reason or "latency was not measured")


def find_miss(figures: Accuracy, budget: Budget) -> str | None:
    """How the figures miss the budget's accuracy, for a sentence; ``None`` where they meet it."""
    worst = figures.worst_level
    if worst is not None and worst[1] < budget.min_level_sqnr_db - _ROUNDING:
        return f"{worst[0]} keeps {worst[1]:.1f} dB of at least {budget.min_level_sqnr_db:g}"
    kept = figures.kept
    if kept is not None and kept[1] < 100 * (budget.min_kept - _ROUNDING):
        figure = find_figure(kept[0])
        return f"{figure.title}: {figure.format(kept[1])} of at least {100 * budget.min_kept:g} %"
    if figures.cosine_mean is not None and figures.cosine_mean < budget.min_cosine - _ROUNDING:
        return f"the mean cosine is {figures.cosine_mean:.4f} of at least {budget.min_cosine:g}"
    if figures.drop_points is not None:
        if figures.drop_points > budget.max_drop_points + _ROUNDING:
            what = name_top1(figures)
            return f"{what} drops by {figures.drop_points:.2f} points of at most {budget.max_drop_points:g}"
        return None
    least = get_least_agreement(figures, budget)
    if figures.agreement is not None and figures.agreement < (least - _ROUNDING) * figures.images:
        return f"{name_agreement(figures)} is {format_agreement(figures)} of at least {100 * least:g} %"
    return None


def _keeps_latency(variant: Variant, budget: Budget) -> bool:
    limit = budget.max_latency_ms
    return variant.latency is not None and (limit is None or variant.latency.p50_ms <= limit)


def _p50(variant: Variant) -> float:
    assert variant.latency is not None
    return variant.latency.p50_ms


def _accuracy_loss(variant: Variant) -> tuple[float, float, float]:
    """Smaller is more faithful: drop, then disagreement, then noise."""
    figures = variant.choice_accuracy or variant.accuracy
    assert figures is not None
    noise = -figures.sqnr_db if figures.sqnr_db is not None else float("-inf")
    kept = figures.agreement_percent or (figures.kept[1] if figures.kept is not None else 0.0)
    return figures.drop_points or 0.0, -kept, noise


def _pick(variants: Sequence[Variant], rank: dict[str, int], ratio: PairRatio | None) -> tuple[Variant, list[Variant]]:
    """Rules 4 and 5: the winner, and all that are as fast as the fastest within the interval, the winner among them."""
    order = {v.name: (rank.get(v.precision, len(rank)), place) for place, v in enumerate(variants)}
    if variants[0].latency is None:  # as none of them has one then
        first = min(variants, key=lambda v: order[v.name])
        return first, [first]
    fastest = min(variants, key=lambda v: (_p50(v), v.size_bytes))

    def is_same(variant: Variant) -> bool:
        if ratio is not None:
            return _find_faster(variant, variants, ratio) is None
        ours, theirs = variant.ratio, fastest.ratio
        if ours is None or theirs is None:
            return _p50(variant) == _p50(fastest)
        return ours.low <= theirs.high and theirs.low <= ours.high

    same = [v for v in variants if is_same(v)] or [fastest]  # medians of pairs may go round in a circle
    # Of one precision the first: what it leaves float is then float32, which every processor computes in.
    return min(same, key=lambda v: (v.size_bytes, *order[v.name])), same


def _find_faster(variant: Variant, variants: Sequence[Variant], ratio: PairRatio) -> Variant | None:
    """The one of ``variants`` over which ``variant``'s latency is largest beyond doubt."""
    ratios = [(ratio(variant.name, v.name).low, v) for v in variants if v.name != variant.name]
    low, faster = max(ratios, key=lambda pair: pair[0], default=(0.0, None))
    return faster if low > 1 else None


def _explain(
    variant: Variant,
    best: Variant,
    same: Sequence[Variant],
    pool: Sequence[Variant],
    budget: Budget,
    ratio: PairRatio | None,
) -> Variant:
    """Status and reason of a variant that is within the accuracy budget."""

    def settle(status: Status, reason: str) -> Variant:
        return replace(variant, status=status, reason=reason)

    if variant.latency is None:
        if variant.name == best.name:
            return settle("CHOSEN", "first in the target's order; latency was not measured")
        return settle(variant.status, f"latency was not measured; {best.name} comes first")
    if not _keeps_latency(variant, budget):
        return settle("TOO SLOW", f"p50 {_p50(variant):.3g} ms of at most {budget.max_latency_ms:g} ms")
    if variant.name == best.name:
        return settle("CHOSEN", describe_win(best, same, len(pool) - 1))
    if variant.name in {v.name for v in same}:
        larger = "the same size" if variant.size_bytes == best.size_bytes else f"{format_share(variant, best)} the size"
        return settle("WITHIN BUDGET", f"same speed as {best.name} within the interval, {larger}")
    if ratio is None:
        return settle("SLOWER", f"p50 {_p50(variant):.3g} ms, {best.name}'s {_p50(best):.3g} ms")
    # It may be too close to a smaller one to tell, and yet slower than another.
    slower_than = best if ratio(variant.name, best.name).low > 1 else _find_faster(variant, pool, ratio) or best
    over = ratio(variant.name, slower_than.name)
    return settle("SLOWER", f"{format_ratio(over)} × the latency of {slower_than.name}")


def _find_blurred(best: Variant, same: Sequence[Variant], ratio: PairRatio | None) -> tuple[tuple[str, Ratio], ...]:
    if ratio is None:
        return ()
    pairs = [(v.name, ratio(v.name, best.name)) for v in same if v.name != best.name]
    return tuple((name, found) for name, found in pairs if found.high > _CLEAR_TIE * found.low)


def _conclude(
    judged: dict[str, Variant],
    best: Variant,
    budget: Budget,
    blurred: tuple[tuple[str, Ratio], ...],
    beaten: Variant | None,
) -> Ruling:
    """The ruling, with the chosen one judged by validation images."""
    cause: Cause = "fastest"
    late_miss = find_late_miss(best, budget)
    if judged[best.name].status == "TOO SLOW":
        cause = "too slow"
    elif late_miss:
        cause = "late miss"
        judged[best.name] = _drop(best, f"{late_miss} on validation images")
    elif beaten is not None:
        cause = "exact"
    elif best.latency is None:
        cause = "first in order"
    elif len(judged) == 1:
        cause = "only one"
    return Ruling(tuple(judged.values()), cause, budget, judged[best.name], beaten, blurred)


def _is_exact(variant: Variant, budget: Budget) -> bool:
    """Whether it is the model itself in float, as far as parity and validation images say.

    The parity of a quantised engine is with its own graph.
    """
    passed = variant.parity is not None and variant.parity.passed
    return passed and variant.precision in FLOAT_PRECISIONS and find_late_miss(variant, budget) is None


def find_late_miss(best: Variant, budget: Budget) -> str | None:
    """How the validation figures miss the budget, where the choice was made by other ones."""
    return None if best.accuracy is None else find_miss(best.accuracy, budget)
