"""set_back_sites: the fewest sites back in float that bring a quantised engine inside the accuracy budget.

The most harmful go first, by the noise that each makes alone: 1, 2, 4, 8 … of them until the budget is met, then by
bisection the smallest number that meets it. Each trial compiles an engine and judges it on the calibration images of
the choice; validation images are not looked at. Nothing is calibrated again.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from edgevit.build.judge import try_graph
from edgevit.build.prepare_quantized import QUANTIZED_FILE, QuantizedGraph, requantize
from edgevit.build.trial import GraphFile
from edgevit.build.verdict.choose import find_miss
from edgevit.core import schema
from edgevit.core.errors import CompileError
from edgevit.core.isa import read_tier
from edgevit.core.progress import Progress, add_to_names, ignore_progress
from edgevit.core.quantization import QuantizationRecord, SetBack, SiteChoice, SiteRecord
from edgevit.core.report.report import Accuracy
from edgevit.core.task import DENSE_TASKS

if TYPE_CHECKING:
    from edgevit.build.bench import Bench
    from edgevit.build.order import Order
    from edgevit.core.recipe import Recipe
    from edgevit.core.target import Budget

LARGEST_SHARE = 1 / 3
"""Of the quantised sites. With a third in float, INT8 that is twice as fast as float is 1.5 times as fast at most,
before what the conversions at each boundary cost: fp16, which loses nothing, is then the better engine."""
MOST_TRIALS = 12
"""Each compiles an engine and runs every image of the choice; 12 settle a number up to 64 exactly."""
EXACT_DB = 200.0
"""In place of infinity, which JSON does not know."""
STAGE = "set back sites"
REASON = "set back to float to stay within --max-drop"
RESULT_FILE = "set_back.json"

Judge: TypeAlias = Callable[[tuple[str, ...]], Accuracy | None]
"""Figures on the choice's images with some sites set back to float; ``None`` where that does not compile."""


def set_back_sites(quantized: QuantizedGraph, order: Order, bench: Bench) -> tuple[QuantizedGraph, GraphFile]:
    """Judge an INT8 or FP8 graph, and set back the fewest sites that the accuracy budget asks for.

    Args:
        quantized: With its plan on disk.
        order: The library and device that it is judged on, and what quantising may cost; latency does not matter here.
            Sites that the recipe pins are not set back.
        bench: The choice's images are looked at; without any, nothing is set back. Told about the first judgement, and
            about every trial.

    Returns:
        The graph to use with its record, and what to compile. They are the given ones where it meets the budget or
        cannot be judged, and where it misses it with a third of the sites set back. The record says which sites went
        and what that gained.
    """
    file, precision = GraphFile(quantized.path, quantized.inputs), quantized.precision
    first = try_graph(file, precision, order, bench)
    file = dataclasses.replace(file, trial=first)
    before = first.variant.choice_accuracy
    if before is None or find_miss(before, order.budget) is None:
        return quantized, file

    def judge(sites: tuple[str, ...]) -> Accuracy | None:
        with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
            path = Path(folder) / QUANTIZED_FILE
            requantize(quantized.source, mark_float(quantized.record, sites), quantized.backend, path, quantized.opened)
            graph = GraphFile(path, _identify_graph(quantized, sites))
            trial = try_graph(graph, precision, order, bench.quiet())
        return trial.variant.choice_accuracy

    progress = add_to_names(bench.progress, f" of {precision}")

    def search(folder: Path) -> None:
        result = search_set_back(quantized.record, order.recipe, order.budget, before, judge, progress)
        op_counts: Mapping[str, int] = {}
        if result.sites:
            record = mark_float(quantized.record, result.sites)
            op_counts = requantize(
                quantized.source, record, quantized.backend, folder / QUANTIZED_FILE, quantized.opened
            )
        data = {"result": schema.to_data(result), "op_counts": dict(op_counts)}
        (folder / RESULT_FILE).write_text(json.dumps(data), encoding="utf-8")

    folder, _ = bench.cache.run("set_back", _identify_search(quantized, order, bench), search)
    data = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
    result = schema.from_data(SetBack, data["result"], str(folder), CompileError)
    record = dataclasses.replace(mark_float(quantized.record, result.sites), set_back=result)
    if not result.sites:
        return dataclasses.replace(quantized, record=record), file
    path, inputs = folder / QUANTIZED_FILE, _identify_graph(quantized, result.sites)
    chosen = dataclasses.replace(quantized, path=path, record=record, inputs=inputs, op_counts=data["op_counts"])
    return chosen, GraphFile(path, inputs)


def search_set_back(
    record: QuantizationRecord,
    recipe: Recipe,
    budget: Budget,
    before: Accuracy,
    judge: Judge,
    progress: Progress = ignore_progress,
) -> SetBack:
    """Find the fewest sites, the most harmful first, without which the graph meets the budget.

    The record ranks them, and the recipe's pins stay. ``before`` are the figures with no site set back, which miss it.
    """
    order = rank_harmful(record, recipe)
    total = sum(site.precision != "float" for site in record.sites)
    limit = min(len(order), max(1, int(LARGEST_SHARE * total)))
    found: dict[int, Accuracy] = {}
    trials = 0

    def meets(count: int) -> bool:
        nonlocal trials
        progress(STAGE, trials, count_trials(limit))
        trials += 1
        figures = judge(order[:count])
        if figures is None:
            return False
        found[count] = figures
        return find_miss(figures, budget) is None

    fewest = find_fewest(meets, limit)
    progress(STAGE, trials, trials)
    tried = max(found, default=0)
    after = found.get(tried if fewest is None else fewest, before)
    return SetBack(
        sites=order[: fewest or 0],
        quantized=total,
        tried=tried,
        trials=trials,
        images=before.images,
        before=_loss(before),
        after=_loss(after),
        labelled=before.drop_points is not None,
        task=before.task
        if before.task in DENSE_TASKS or not before.level_sqnr_db
        else "features",  # what the figures are
    )


def find_fewest(meets: Callable[[int], bool], limit: int, trials: int = MOST_TRIALS) -> int | None:
    """The smallest count up to ``limit`` that was found to meet the budget, where a count of 0 does not.

    Counts are taken to get better as they grow. Where noise makes that untrue the result may not be the smallest, but
    it has met the budget itself.

    Args:
        meets: Whether a count meets it.
        limit: Largest count.
        trials: Most calls of ``meets``.

    Returns:
        The count, or ``None`` where neither ``limit`` nor a smaller count that was tried meets the budget.
    """
    missed, count = 0, min(1, limit)
    while missed < limit and trials > 0:
        trials -= 1
        if meets(count):
            break
        missed, count = count, min(2 * count, limit)
    else:
        return None
    while count - missed > 1 and trials > 0:
        trials -= 1
        middle = (missed + count) // 2
        if meets(middle):
            count = middle
        else:
            missed = middle
    return count


def count_trials(limit: int) -> int:
    """Most trials that :func:`find_fewest` takes: up to the limit, and back by bisection."""
    up = max(0, limit - 1).bit_length() + 1
    return min(MOST_TRIALS, up + max(0, up - 2))


def rank_harmful(record: QuantizationRecord, recipe: Recipe) -> tuple[str, ...]:
    """Quantised sites that were ranked, the most harmful first, without those that the recipe pins."""
    from edgevit.quantize.quantize import match_sites

    pins = match_sites([site.name for site in record.sites], recipe.quantization.sites)
    return tuple(s.name for s in record.worst if s.precision != "float" and s.name not in pins)


def mark_float(record: QuantizationRecord, sites: tuple[str, ...]) -> QuantizationRecord:
    """The record with some sites set back to float, for the budget's sake."""

    def mark(site: SiteRecord) -> SiteRecord:
        return dataclasses.replace(site, precision="float", reason=REASON) if site.name in sites else site

    marked = tuple(mark(site) for site in record.sites)
    return dataclasses.replace(record, sites=marked, fallback=(*record.fallback, *sites))


def pin_set_back(recipe: Recipe, record: QuantizationRecord) -> Recipe:
    """The recipe with the sites that were set back as pins, which keep them float whatever the next build's budget."""
    if record.set_back is None or not record.set_back.sites:
        return recipe
    chosen = record.set_back.sites
    pins: dict[str, SiteChoice] = {n: choice for n, choice in recipe.quantization.sites.items() if n not in chosen}
    pins.update(dict.fromkeys(chosen, "float"))
    return dataclasses.replace(recipe, quantization=dataclasses.replace(recipe.quantization, sites=pins))


def _loss(figures: Accuracy) -> float:
    if figures.level_sqnr_db:
        worst = figures.worst_level
        return EXACT_DB if worst is None else worst[1]
    return (figures.agreement_percent or 0.0) if figures.drop_points is None else figures.drop_points


def _identify_graph(quantized: QuantizedGraph, sites: tuple[str, ...]) -> dict[str, Any]:
    return {**quantized.inputs, "set_back": sorted(sites)}


def _identify_search(quantized: QuantizedGraph, order: Order, bench: Bench) -> dict[str, Any]:
    target, recipe, budget, choice = order.target, order.recipe, order.budget, bench.evidence.choice
    assert choice is not None
    return {
        **quantized.inputs,
        "device": target.device,
        "tier": read_tier() if target.device == "CPU" else None,
        "settings": {**target.settings, **recipe.settings},
        "batch": recipe.batch,
        "budget": schema.to_data(dataclasses.replace(budget, max_latency_ms=None)),
        "choice": choice.use.sha256,
    }
