"""plan_quantization: from a float graph and calibration images to a plan of its Q/DQ pairs.

For INT8 the float graph is walked segment by segment with the calibration images' activations. Each site is fitted to
do to its inputs, once they are quantised, what the float site does to them, and corrects no error but its own: so any
of them can be set back to float, and the others stay right. FP8 needs scales only (:mod:`edgevit.quantize.fp8`).
"""

from __future__ import annotations

import dataclasses
import fnmatch
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from edgevit.core.errors import CalibrationError, RecipeError
from edgevit.core.memory import release_memory
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.quantization import SQNR_DB, Quantization, QuantizationRecord, SiteRecord
from edgevit.graph.carried import CARRIED
from edgevit.graph.graph import Graph
from edgevit.graph.passes.split_convolution import split_convolution
from edgevit.graph.segments import join_segments, release_weights, split_graph, split_part
from edgevit.quantize.fp8 import fit_fp8
from edgevit.quantize.placement import PLACEMENTS, check_weight_bits
from edgevit.quantize.plan import QuantizationPlan, SitePlan
from edgevit.quantize.segment_fit import SegmentFit
from edgevit.quantize.sensitivity import choose_float, find_group_pattern, rank_groups, rank_sites
from edgevit.quantize.token_importance import Importance

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]

Choice = TypeVar("Choice")

_SCORING_IMAGES = 32
_GARBAGE_BYTES = 16 << 20  # of weights whose copies may wait for the collector, which looks at all that an app holds


def plan_quantization(
    graph: Graph,
    pixels: Iterable[Pixels],
    quantization: Quantization,
    backend: str,
    *,
    precision: Literal["int8", "fp8"] = "int8",
    seed: int = 0,
    importance: Importance | None = None,
    progress: Progress = ignore_progress,
) -> tuple[Graph, QuantizationPlan, QuantizationRecord]:
    """Fit every site for an engine library, and choose those that are quantised.

    Args:
        graph: Optimised, exported with ``fold_residual_rotation`` where the recipe says so; it is not changed.
        pixels: Calibration images, ``(1, H, W, 3) uint8`` each.
        quantization: The recipe's decisions.
        backend: A key of :data:`edgevit.quantize.placement.PLACEMENTS`.
        precision: What sites become. FP8 reads only the pins, the products, and what may stay float for its noise.
        seed: Of the sample of tokens.
        importance: For the observer ``loss``, for the items of ``pixels`` in their order.
        progress: Told about every segment and step.

    Returns:
        The float graph that the plan is for, which computes what ``graph`` computes; biases may have moved
        (:mod:`edgevit.quantize.methods.attention_centring`). The plan, which also holds sites that were left float for
        their damage. The record for the report.

    Raises:
        CalibrationError: No images, or activations that are not finite, with their names.
        RecipeError: A pin that names no site.
    """
    placement = PLACEMENTS[backend]
    if precision == "int8":
        check_weight_bits(quantization.weight_bits, backend)
    images: list[npt.NDArray[np.generic]] = list(pixels)
    if not images:
        raise CalibrationError("there are no calibration images", "give --calibration DATA")
    generator = np.random.default_rng(seed)
    # Sets are listed class by class; what looks at the first few, or at halves, shall see all classes.
    order = generator.permutation(len(images))
    stream = [images[i] for i in order]
    importance = {name: rows[order] for name, rows in (importance or {}).items()}
    count, sample = len(stream), stream[:_SCORING_IMAGES]
    del images  # the stream's items give way to activations
    base = graph.copy()
    names = [site.name for site in base.sites()]
    pins, observers = match_sites(names, quantization.sites), match_sites(names, quantization.observers)
    started = time.perf_counter()
    plan = QuantizationPlan(at=placement.quantize_at)
    products = placement.products if quantization.products == "auto" else quantization.products
    if precision == "int8" and products == "both" and quantization.activations == "int8":
        split_convolution(base, pins)
    reasons: dict[str, str] = {}
    judged: dict[str, SitePlan] = {}
    if precision == "fp8":
        plan.sites.update(fit_fp8(base, stream, placement, products, pins, reasons, progress))
    else:
        judges = min(_SCORING_IMAGES, count // 2)  # of a small set half: the others have to say what is to be expected
        fit = SegmentFit(
            plan, placement, quantization, products, pins, observers, reasons, importance, generator, judges=judges
        )
        carried = [node for node in base.model.graph if (node.name or "").startswith(CARRIED)]
        encoder = [node for node in base.model.graph if node not in set(carried)] if carried else ()
        segments = split_part(base, encoder) if encoder else split_graph(base)
        images, waiting = list(stream), 0
        for index, segment in enumerate(segments):
            progress("quantize", index, len(segments))
            fit.run(segment, stream)
            waiting += release_weights(segment)
            if waiting >= _GARBAGE_BYTES:
                release_memory()
                waiting = 0
        if carried:
            fit.run_carried(join_segments(split_graph(base)), images)
        progress("quantize", len(segments), len(segments))
        images.clear()
        judged = fit.judged
    stream.clear()
    seconds = {"fit": round(time.perf_counter() - started, 2)}
    started = time.perf_counter()
    wanted = SQNR_DB if quantization.sqnr_db is None else quantization.sqnr_db
    alone = f"only weights are int{quantization.weight_bits}: the recipe keeps activations float"
    notes = [alone] if quantization.activations == "float" and precision == "int8" else []
    tried = dataclasses.replace(plan, sites=plan.sites | judged)
    damage = rank_sites(base, tried, sample, progress)
    groups = rank_groups(base, tried, sample, progress)
    fallback = choose_float(
        base,
        tried,
        sample,
        damage,
        sqnr_db=wanted,
        share=quantization.float_share,
        pins=pins,
        gain=quantization.float_gain,
        notes=notes,
        progress=progress,
    )
    reasons.update(dict.fromkeys(fallback, f"it makes much noise for the time that {precision.upper()} would save"))
    seconds["sensitivity"] = round(time.perf_counter() - started, 2)
    records = []
    for site in base.sites():
        quantized = site.name in plan.sites and site.name not in reasons
        reason = "" if quantized else reasons.get(site.name, "the recipe or the engine keeps it float")
        records.append(SiteRecord(site.name, precision if quantized else "float", reason, damage.get(site.name)))
    record = QuantizationRecord(
        count, sites=tuple(records), groups=groups, fallback=fallback, seconds=seconds, notes=tuple(notes)
    )
    return base, plan, record


def match_sites(sites: Sequence[str], pins: Mapping[str, Choice]) -> dict[str, Choice]:
    """Which sites a recipe pins, and to what, by name or pattern; a later pattern overrides an earlier one.

    Raises:
        RecipeError: Patterns that match no site, all of them.
    """
    matched: dict[str, Choice] = {}
    idle = []
    for pattern, choice in pins.items():
        names = fnmatch.filter(sites, pattern)
        if not names:
            idle.append(pattern)
        matched.update(dict.fromkeys(names, choice))
    if idle:
        known = dict.fromkeys(find_group_pattern(name) for name in sites)
        raise RecipeError(f"no site is called {', '.join(idle)}", f"the sites are {', '.join(known)}; * is any text")
    return matched
