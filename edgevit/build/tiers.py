"""plan_tiers: under which instruction sets a target's engines are judged, and which this machine cannot stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgevit.build.verdict.choose import find_miss
from edgevit.core.isa import TIERS, TierName, list_tiers, read_tier
from edgevit.core.libraries import LIBRARIES
from edgevit.core.report.report import Variant
from edgevit.core.target import Budget, Target


@dataclass(frozen=True)
class TierPlan:
    """Where a build judges its engines.

    Attributes:
        ranked: Where latencies are measured and the choice is made; ``None`` where the system does not tell.
        others: Where the engines are judged besides.
        absent: Named by the target, but not to be had here; ``ranked`` stands in for them.
        floats: Whose types of float arithmetic are tried: what both the target and this machine have.
    """

    ranked: TierName | None
    others: tuple[TierName, ...] = ()
    absent: tuple[TierName, ...] = ()
    floats: TierName | None = None


def plan_tiers(target: Target) -> TierPlan:
    """For a target that names no instruction sets, or whose engines do not run on a CPU: this process's own."""
    here = read_tier()
    if not target.isa:
        return TierPlan(here, floats=here)
    # ONNX Runtime knows no limit: it computes in the newest that the processor has.
    able = list_tiers() if LIBRARIES[target.backend].onednn else ((here,) if here is not None else ())
    present = tuple(tier for tier in target.isa if tier in able)
    ranked = present[0] if present else here
    first = target.isa[0]
    return TierPlan(
        ranked,
        present[1:],
        tuple(tier for tier in target.isa if tier not in able),
        ranked if TIERS[first].bf16 else first,
    )


def describe_plan(plan: TierPlan, target: Target) -> tuple[str, ...]:
    """What weakens the evidence, a warning each; nothing where the target leaves it to this machine."""
    warnings = []
    stand_in = "an unknown processor" if plan.ranked is None else TIERS[plan.ranked].title
    if plan.absent:
        names = " and ".join(TIERS[tier].title for tier in plan.absent)
        limit = "" if LIBRARIES[target.backend].onednn else " (ONNX Runtime cannot be limited to older instructions)"
        warnings.append(
            f"{names} cannot be run here{limit}: engines were judged under {stand_in}, whose latencies may rank them "
            "in another order; the first opening on such a processor answers the bundle's canary"
        )
    if plan.ranked is not None and plan.ranked != read_tier():
        warnings.append(
            f"latencies are those of this machine's cores, limited to {stand_in}: they rank the variants, and say "
            "nothing of the target's milliseconds"
        )
    return tuple(warnings)


def add_judgements(
    variants: Sequence[Variant], elsewhere: Mapping[TierName, Sequence[Variant]], budget: Budget
) -> tuple[Variant, ...]:
    """The variants of the table, with what makes one fail under another tier in place of its own figures.

    ``elsewhere`` has the same names, judged under other tiers; the budget holds everywhere.
    """
    result = list(variants)
    for tier, judged in elsewhere.items():
        found = {variant.name: variant for variant in judged}
        result = [_judge_under(TIERS[tier].title, v, found[v.name], budget) for v in result]
    return tuple(result)


def _judge_under(title: str, variant: Variant, other: Variant, budget: Budget) -> Variant:
    if variant.status == "NOT SUPPORTED":
        return variant
    if other.status == "NOT SUPPORTED":
        return replace(variant, status="NOT SUPPORTED", reason=f"under {title}: {other.reason}")
    if other.parity is not None and not other.parity.passed:
        if variant.parity is not None and not variant.parity.passed:
            return variant
        return replace(variant, parity=replace(other.parity, reason=f"under {title}: {other.parity.reason}"))
    if other.choice_accuracy is not None and find_miss(other.choice_accuracy, budget) is not None:
        variant = replace(variant, choice_accuracy=other.choice_accuracy)
    if other.accuracy is not None and find_miss(other.accuracy, budget) is not None:
        variant = replace(variant, accuracy=other.accuracy)
    return variant
