"""try_here: try every graph on this machine, choose by measured latency, and start the chosen one afresh."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgevit.build.libraries import add_libraries
from edgevit.build.outcome import Outcome
from edgevit.build.precisions import Arithmetic, list_arithmetics
from edgevit.build.rehearsal import list_fusion_warnings, read_fusion
from edgevit.build.tiers import add_judgements, describe_plan
from edgevit.build.trial import GraphFile, refuse_trial
from edgevit.build.try_engines import SearchResult, try_engines
from edgevit.build.verdict.choose import choose_variant
from edgevit.core.errors import DeviceError
from edgevit.core.isa import TIERS, TierName, read_tier
from edgevit.core.progress import add_to_names
from edgevit.core.report.report import Variant
from edgevit.measure.cold_start import measure_cold_start

if TYPE_CHECKING:
    from edgevit.build.bench import Bench
    from edgevit.build.order import Order


def try_here(graphs: Mapping[str, GraphFile], order: Order, bench: Bench) -> Outcome:
    """Try graphs, by precision, on this machine, choose by latency, and start the chosen one in fresh processes.

    Where the target names instruction sets, this happens under them, in processes of their own. The bench's evidence
    holds the answers of the quantised graphs, which their engines are compared with.
    """
    target, plan = order.target, order.tiers
    found, tiers, absent = judge_here(graphs, order, bench)
    for trial in found.trials:
        if trial.engine is not None:
            bench.cache.hold(trial.engine.directory)  # another process may have made it
    ruling = choose_variant(
        add_judgements([t.variant for t in found.trials], tiers, order.budget),
        order.budget,
        preference=target.precisions,
        ratio=found.comparison.ratio if found.comparison is not None else None,
    )
    rehearsal = read_fusion(found)
    judged: dict[str, tuple[Variant, ...]] = {str(tier): under for tier, under in tiers.items()}
    if judged or plan.ranked != read_tier():
        judged = {str(plan.ranked): tuple(t.variant for t in found.trials), **judged}
    outcome = Outcome(
        found,
        ruling.variants,
        ruling,
        rehearsal,
        risks=(*absent, *describe_plan(plan, target), *list_fusion_warnings(rehearsal)),
        tiers=judged,
        graph_outputs=bench.evidence.graph_outputs,
    )
    return _start_chosen(outcome, order, bench)


def judge_here(
    graphs: Mapping[str, GraphFile], order: Order, bench: Bench, *, measure: bool = True
) -> tuple[SearchResult, dict[TierName, tuple[Variant, ...]], tuple[str, ...]]:
    """Try the graphs under every instruction set of the target.

    Args:
        graphs: By precision.
        order: The target, and what is tried.
        bench: Its evidence holds what engines are compared with.
        measure: Whether latency is measured.

    Returns:
        What came of them under the set that they are ranked by; the variants as judged under each other one; and the
        engine libraries that are not there, a sentence each.
    """
    target, recipe, plan = order.target, order.recipe, order.tiers
    arithmetics = list_arithmetics(tuple(graphs), target, recipe, plan.floats)
    tried = {name: _choose_floats(graphs[a.precision], a, first=name == a.precision) for name, a in arithmetics.items()}
    added, absent = add_libraries(graphs, target, recipe, plan.floats)
    tried |= added
    found = bench.run_under(plan.ranked, try_engines, tried, order, measure=measure)
    tiers = {tier: _judge_elsewhere(tier, tried, order, bench) for tier in plan.others}
    return found, tiers, absent


def _choose_floats(graph: GraphFile, arithmetic: Arithmetic, *, first: bool) -> GraphFile:
    """Figures of an earlier trial are those of the precision's first variant."""
    return dataclasses.replace(
        graph, precision=arithmetic.precision, floats=arithmetic.floats, trial=graph.trial if first else None
    )


def _judge_elsewhere(
    tier: TierName, graphs: Mapping[str, GraphFile], order: Order, bench: Bench
) -> tuple[Variant, ...]:
    graphs = {name: dataclasses.replace(graph, trial=None) for name, graph in graphs.items()}
    bench = dataclasses.replace(bench, progress=add_to_names(bench.progress, f", {TIERS[tier].title}"))
    try:
        found = bench.run_under(tier, try_engines, graphs, order, measure=False)
    except DeviceError as exc:  # no engine opens there
        return tuple(refuse_trial(graph.precision or name, exc, name).variant for name, graph in graphs.items())
    return tuple(trial.variant for trial in found.trials)


def _start_chosen(outcome: Outcome, order: Order, bench: Bench) -> Outcome:
    """With the cold start of the chosen engine."""
    chosen, engine = outcome.chosen, outcome.engine
    if chosen is None or engine is None:
        return outcome
    bench.progress("cold start", 0, 1)
    cold = measure_cold_start(engine.directory, settings=engine.settings, tier=order.tiers.ranked)
    bench.progress("cold start", 1, 1)
    started = dataclasses.replace(chosen, cold_start=cold)
    return dataclasses.replace(outcome, variants=tuple(started if v is chosen else v for v in outcome.variants))
