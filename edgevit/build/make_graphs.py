"""make_graphs: the graphs that a build tries, by precision; quantised ones keep to the budget's accuracy."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from edgevit.build.graph_answers import stand_in
from edgevit.build.open_graph import fix_batch, open_graph
from edgevit.build.precisions import QUANTIZED_PRECISIONS
from edgevit.build.prepare import PreparedGraph, prepare_graph, prepare_half_range, read_range_pixels
from edgevit.build.prepare_quantized import check_pins, prepare_quantized
from edgevit.build.set_back import set_back_sites
from edgevit.build.trial import GraphFile
from edgevit.core.libraries import LIBRARIES
from edgevit.core.progress import add_to_names
from edgevit.core.report.report import GraphSummary

if TYPE_CHECKING:
    from edgevit.build.bench import Bench
    from edgevit.build.order import Order
    from edgevit.core.cache import StageCache
    from edgevit.core.progress import Progress
    from edgevit.models.model import Model
    from edgevit.pixels.images import ImageSet


def make_base(model: Model, order: Order, cache: StageCache, progress: Progress) -> PreparedGraph:
    """Export and optimise the float graph; refuse pins of no site before minutes of the float model.

    Raises:
        ExportError: torch's exporter refused the module.
        PassError: A rewrite failed.
        RecipeError: A pin of the recipe names no site.
        CompileError: The result is not valid ONNX.
    """
    base = prepare_graph(model, order.target, fix_batch(model, order.recipe), cache, progress)
    base = open_graph(base, model, order.recipe, cache, progress)
    if "int8" in order.precisions.tried and (order.recipe.quantization.sites or order.recipe.quantization.observers):
        check_pins(model, order.target, order.recipe, cache, progress)
    return base


def list_parts(order: Order) -> tuple[str, ...]:
    """What :func:`make_graphs` times, in its order."""
    quantized = [f"quantize {p}" for p in QUANTIZED_PRECISIONS if p in order.precisions.tried]
    ranged = ("float16 range",) if LIBRARIES[order.target.backend].nvidia else ()
    return (*ranged, *quantized, *(("fallback",) if quantized else ()))


def make_graphs(
    base: PreparedGraph, model: Model, images: ImageSet | None, order: Order, bench: Bench
) -> tuple[dict[str, GraphFile], GraphSummary]:
    """What is compiled for each precision, in the order of the table, and how the float graph was made.

    INT8 has an export of its own, so the model is needed beside :func:`make_base`'s graph. Without calibration
    ``images`` random pixels stand for them.

    Raises:
        CalibrationError: Activations that are not finite, or fewer images than one call of the graph takes.
        CompileError: A graph is not valid ONNX.
    """
    recipe, stages = order.recipe, bench.stages
    pixels = bench.evidence.pixels
    if LIBRARIES[order.target.backend].nvidia:
        with stages.time("float16 range"):
            ranged = read_range_pixels(images, model.preprocess, pixels)
            base = prepare_half_range(base, ranged, recipe.batch[0], bench.cache, bench.progress)
    summary = GraphSummary(base.passes, base.op_counts)
    graphs = {p: GraphFile(base.path, base.inputs, made=summary) for p in order.precisions.tried}
    quantized = {}
    for precision in QUANTIZED_PRECISIONS:
        if precision in graphs:
            with stages.time(f"quantize {precision}"):
                made = prepare_quantized(precision, model, order.target, recipe, images, bench.cache, bench.progress)
            if made.reused:
                again = "calibrated by an earlier build of the same model, recipe and images; used again"
                bench.note(f"{precision}: {again}")
            quantized[precision] = made
    if not quantized:
        return graphs, summary
    with stages.time("fallback"):
        for precision, made in quantized.items():
            if order.place.measures:
                graph, file = bench.run_under(order.tiers.ranked, set_back_sites, made, order)
            else:
                apart = dataclasses.replace(bench, progress=add_to_names(bench.progress, " in ONNX Runtime"))
                graph, file = apart.run_under(None, set_back_sites, made, stand_in(order))
            bench.cache.hold(file.path.parent)
            made_of = GraphSummary(graph.passes, graph.op_counts)
            graphs[precision] = dataclasses.replace(file, made=made_of, record=graph.record)
    return graphs, summary
