"""quantize_graph: from a float graph and calibration images to a graph with Q/DQ pairs.

The graph is walked segment by segment. Two streams of activations are kept for the calibration images: the float
model's, and that of the model as quantised so far. Each site is fitted to bring the second back to the first.
"""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.calibrate import calibrate_graph
from edgevit.errors import CalibrationError, RecipeError
from edgevit.graph import Graph
from edgevit.methods.activation_grid import choose_grid
from edgevit.methods.attention_centring import center_attention, find_operands
from edgevit.methods.linear_fit import fit_linears
from edgevit.placement import PLACEMENTS, Placement
from edgevit.plan import QuantizationPlan, SitePlan, apply_plan, read_weight, trace_layout
from edgevit.progress import Progress, ignore_progress
from edgevit.quantization import Quantization, QuantizationRecord, SiteRecord
from edgevit.ranges import TensorStatistics
from edgevit.segments import Segment, SegmentRunner, extract_segment, split_graph
from edgevit.sensitivity import choose_fallback, choose_products, rank_sites

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]

_ROWS = 24576  # tokens that a Linear is fitted on, at most: eight for each input channel of ViT-B's widest
_PRODUCT_IMAGES = 8
_SCORING_IMAGES = 24


@dataclass
class _Streams:
    """What enters a segment, an image each, in the float model and in the one quantised so far."""

    reference: list[npt.NDArray[np.generic]]
    quantized: list[npt.NDArray[np.generic]]


def quantize_graph(
    graph: Graph,
    pixels: Iterable[Pixels],
    quantization: Quantization,
    backend: str,
    *,
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> tuple[Graph, QuantizationPlan, QuantizationRecord]:
    """Quantise a graph for an engine library.

    Args:
        graph: Optimised, exported with ``fold_residual_rotation`` where the recipe says so; it is not changed.
        pixels: Calibration images, ``(1, H, W, 3) uint8`` each.
        quantization: The recipe's decisions.
        backend: A key of :data:`edgevit.placement.PLACEMENTS`.
        seed: Of the sample of tokens.
        progress: Told about every segment and step.

    Returns:
        The graph with Q/DQ pairs; the plan that made it, which also holds sites that were left float for their damage;
        and the record for the report.

    Raises:
        CalibrationError: No images, or activations that are not finite, with their names.
        RecipeError: A pin that names no site.
    """
    base, plan, record = plan_quantization(graph, pixels, quantization, backend, seed=seed, progress=progress)
    chosen = [site.name for site in record.sites if site.precision == "int8"]
    return apply_plan(base, plan, chosen), plan, record


def plan_quantization(
    graph: Graph,
    pixels: Iterable[Pixels],
    quantization: Quantization,
    backend: str,
    *,
    seed: int = 0,
    progress: Progress = ignore_progress,
) -> tuple[Graph, QuantizationPlan, QuantizationRecord]:
    """As :func:`quantize_graph`, but the first result is the float graph that the plan applies to.

    It computes what ``graph`` computes; biases may have moved (:mod:`edgevit.methods.attention_centring`).
    """
    placement = PLACEMENTS[backend]
    images: list[npt.NDArray[np.generic]] = list(pixels)
    if not images:
        raise CalibrationError("there are no calibration images", "give --calibration DATA")
    generator = np.random.default_rng(seed)
    # Sets are listed class by class; what looks at the first few, or at halves, shall see all classes.
    images = [images[i] for i in generator.permutation(len(images))]
    base = graph.copy()
    pins = match_sites([site.name for site in base.sites()], quantization.sites)
    started = time.perf_counter()
    plan = QuantizationPlan(at=placement.quantize_at)
    products = placement.products if quantization.products == "auto" else quantization.products
    streams = _Streams(images, list(images))
    segments = split_graph(base)
    ranges = _observe_inputs(base, images, quantization, progress)
    reasons: dict[str, str] = {}
    for index, segment in enumerate(segments):
        progress("quantize", index, len(segments))
        fit = _SegmentFit(segment, plan, placement, quantization, products, pins, reasons, ranges, generator)
        streams = fit.run(streams, last=index == len(segments) - 1)
    progress("quantize", len(segments), len(segments))
    seconds = {"fit": round(time.perf_counter() - started, 2)}
    started = time.perf_counter()
    sample = images[:_SCORING_IMAGES]
    damage = rank_sites(base, plan, sample, progress)
    if quantization.products == "auto" and products == "both":
        dropped = choose_products(base, plan, sample, damage, quantization.products_share, pins)
        reasons.update(dict.fromkeys(dropped, "its probabilities in INT8 would cost more accuracy than the rest"))
    chosen = [name for name in plan.sites if name not in reasons]
    fallback = choose_fallback(base, plan, chosen, sample, damage, quantization.site_share, pins)
    reasons.update(dict.fromkeys(fallback, "alone it would make a large share of all noise"))
    seconds["sensitivity"] = round(time.perf_counter() - started, 2)
    records = []
    for site in base.sites():
        quantized = site.name in plan.sites and site.name not in reasons
        reason = "" if quantized else reasons.get(site.name, "the recipe or the engine keeps it float")
        records.append(SiteRecord(site.name, "int8" if quantized else "float", reason, damage.get(site.name)))
    record = QuantizationRecord(images=len(images), sites=tuple(records), fallback=fallback, seconds=seconds)
    return base, plan, record


def _observe_inputs(
    graph: Graph, images: Sequence[npt.NDArray[np.generic]], quantization: Quantization, progress: Progress
) -> Mapping[str, TensorStatistics]:
    """What the recipe's observer looks at; nothing for ``output``, which needs the activations themselves."""
    if quantization.observer == "output":
        return {}
    names = []
    for node in graph.model.graph:
        if node.op_type in ("MatMul", "Gemm") and read_weight(node) is not None and not _reads_image(node):
            assert node.inputs[0] is not None
            names.append(trace_layout(node.inputs[0]).name or "")
    batches = (np.asarray(image, np.uint8) for image in images)
    return calibrate_graph(graph, list(dict.fromkeys(names)), batches, images=len(images), progress=progress).tensors


def match_sites(sites: Sequence[str], pins: Mapping[str, str]) -> dict[str, str]:
    """Which sites a recipe pins, by name or pattern; a later pattern overrides an earlier one.

    Raises:
        RecipeError: Patterns that match no site, all of them.
    """
    matched: dict[str, str] = {}
    idle = []
    for pattern, choice in pins.items():
        names = fnmatch.filter(sites, pattern)
        if not names:
            idle.append(pattern)
        matched.update(dict.fromkeys(names, choice))
    if idle:
        raise RecipeError(
            f"no site is called {', '.join(idle)}",
            "a build's report.json lists the sites under quantization; * stands for any text",
        )
    return matched


class _SegmentFit:
    """Fits the sites of one segment, in the order of execution."""

    def __init__(
        self,
        segment: Segment,
        plan: QuantizationPlan,
        placement: Placement,
        quantization: Quantization,
        products: str,
        pins: Mapping[str, str],
        reasons: dict[str, str],
        ranges: Mapping[str, TensorStatistics],
        generator: np.random.Generator,
    ) -> None:
        self._segment, self._plan, self._placement, self._quantization = segment, plan, placement, quantization
        self._products, self._pins, self._reasons, self._generator = products, pins, reasons, generator
        self._ranges = ranges
        self._rows: dict[str, list[npt.NDArray[np.int64]]] = {}
        self._means: dict[str, npt.NDArray[np.float64]] = {}
        self._optional: set[str] = set()  # planned, but left out while other sites are fitted

    def run(self, streams: _Streams, *, last: bool) -> _Streams:
        self._center(streams)
        groups = self._list_groups()
        results = self._observe_reference(streams.reference, [g for g in groups if read_weight(g[0]) is not None])
        for group in groups:
            if read_weight(group[0]) is None:
                self._fit_product(group[0], streams)
            else:
                self._fit_linears(group, streams)
        if last:
            return streams
        return _Streams(results, [out[0] for out in self._capture(streams.quantized, (), quantized=True)])

    def _observe_reference(
        self, inputs: Sequence[npt.NDArray[np.generic]], groups: Sequence[Sequence[ir.Node]]
    ) -> list[npt.NDArray[np.generic]]:
        """The float model's results; of the Linears' inputs the means over the tokens that are drawn here."""
        results: list[npt.NDArray[np.generic]] = []
        taps = {_find_tap(group[0]): len(_read(group[0])) for group in groups}
        rows: dict[str, list[npt.NDArray[np.int64]]] = {tap: [] for tap in taps}
        sums = {tap: np.zeros(width) for tap, width in taps.items()}
        for out in self._capture(inputs, list(taps), quantized=False):
            results.append(out[0])
            for (tap, width), values in zip(taps.items(), out[1:], strict=True):
                tokens = values.reshape(-1, width)
                rows[tap].append(self._draw(len(tokens), len(inputs)))
                sums[tap] += tokens[rows[tap][-1]].sum(axis=0, dtype=np.float64)
        bad = [tap for tap, total in sums.items() if not np.isfinite(total).all()]
        if bad:
            raise CalibrationError(f"activations of {', '.join(bad)} are not finite", "the checkpoint may be damaged")
        self._rows = rows
        self._means = {tap: total / sum(map(len, rows[tap])) for tap, total in sums.items()}
        return results

    def _capture(
        self, inputs: Sequence[npt.NDArray[np.generic]], taps: Sequence[str], *, quantized: bool
    ) -> Iterable[list[Values]]:
        graph = extract_segment(self._segment, taps)
        if quantized:
            graph = apply_plan(graph, self._plan, [n for n in self._plan.sites if n not in self._optional])
        runner = SegmentRunner(graph)
        for value in inputs:
            yield runner.run(value)

    def _center(self, streams: _Streams) -> None:
        if self._products == "float":
            return
        for node in self._segment.nodes:
            if node.op_type != "MatMul" or not (node.name or "").endswith("/context"):
                continue
            found = find_operands(node)
            if found is None:
                continue
            keys, values, output = found
            taps = [_output_name(keys), _output_name(values)]
            sums = [
                [tap.reshape(-1, tap.shape[-1]).mean(axis=0, dtype=np.float64) for tap in taken[1:]]
                for taken in self._capture(streams.reference[:32], taps, quantized=False)
            ]
            key_mean, value_mean = (np.mean([s[i] for s in sums], axis=0).astype(np.float32) for i in (0, 1))
            center_attention(keys, values, output, key_mean, value_mean)

    def _list_groups(self) -> list[list[ir.Node]]:
        """Linears that read the same value are fitted together."""
        groups: list[list[ir.Node]] = []
        by_input: dict[str, list[ir.Node]] = {}
        for node in self._segment.nodes:
            if node.op_type not in ("MatMul", "Gemm") or not self._is_wanted(node):
                continue
            weight = read_weight(node)
            key = trace_layout(node.inputs[0]).name if weight is not None and node.inputs[0] is not None else None
            if key is not None and key in by_input:
                by_input[key].append(node)
                continue
            groups.append([node])
            if key is not None:
                by_input[key] = groups[-1]
        return groups

    def _is_wanted(self, node: ir.Node) -> bool:
        name = node.name or ""
        pin = self._pins.get(name)
        if pin == "float":
            self._reasons[name] = "the recipe keeps it float"
            return False
        if _reads_image(node) and self._placement.image is None:  # whatever the recipe says
            self._reasons[name] = "the engine takes no unsigned input"
            return False
        if pin is not None:
            return True
        weight = read_weight(node)
        if weight is None:
            wanted = {"float": (), "scores": ("/scores",), "both": ("/scores", "/context")}[self._products]
            return name.endswith(wanted) if wanted else False
        if min(weight.shape) < self._placement.smallest_dimension:
            self._reasons[name] = f"a matrix of {' × '.join(map(str, weight.shape))} is no faster in INT8"
            return False
        return True

    def _fit_product(self, node: ir.Node, streams: _Streams) -> None:
        operands = [trace_layout(v) for v in node.inputs if v is not None]
        names = [v.name or "" for v in operands]
        taken = list(self._capture(streams.quantized[:_PRODUCT_IMAGES], names, quantized=True))
        first, second = (np.concatenate([t[i] for t in taken]) for i in (1, 2))
        context = operands[0].producer() is not None and operands[0].producer().op_type == "Softmax"  # type: ignore[union-attr]
        grids = (
            choose_grid(self._placement.probability if context else self._placement.product, first),
            choose_grid(self._placement.product, second),
        )
        self._plan.sites[node.name or ""] = SitePlan(tuple(names), grids)
        if context and self._quantization.products == "auto" and self._pins.get(node.name or "") is None:
            self._optional.add(node.name or "")

    def _fit_linears(self, group: Sequence[ir.Node], streams: _Streams) -> None:
        value = group[0].inputs[0]
        assert value is not None
        source, tap = trace_layout(value), _find_tap(group[0])
        taken = []
        for out, rows in zip(self._capture(streams.quantized, [tap], quantized=True), self._rows[tap], strict=True):
            taken.append(out[1].reshape(-1, len(_read(group[0])))[rows])
        fitted = fit_linears(
            group,
            self._means[tap],
            np.concatenate(taken),
            self._placement,
            self._quantization,
            image=_reads_image(group[0]),
            scalable=_may_scale(source),
            statistics=self._ranges.get(source.name or ""),
        )
        for node, site in zip(group, fitted, strict=True):
            self._plan.sites[node.name or ""] = SitePlan(
                (source.name or "",), site.grids, site.weight, site.scale, site.bias, site.affine
            )

    def _draw(self, tokens: int, images: int) -> npt.NDArray[np.int64]:
        """Which tokens of an image are kept, the same in both streams."""
        wanted = max(1, min(tokens, _ROWS // images))
        return np.sort(self._generator.choice(tokens, wanted, replace=False))


def _output_name(linear: ir.Node) -> str:
    """Of a Linear's output with its bias."""
    return next(iter(linear.outputs[0].uses())).node.outputs[0].name or ""


def _reads_image(node: ir.Node) -> bool:
    value = node.inputs[0]
    producer = value.producer() if value is not None else None
    return producer is not None and producer.op_type == "Cast"


def _find_tap(node: ir.Node) -> str:
    """The value whose tokens a Linear is fitted on: its input, traced back to where it was computed."""
    value = node.inputs[0]
    assert value is not None
    return (value.name if _reads_image(node) else trace_layout(value).name) or ""


def _read(node: ir.Node) -> Values:
    weight = read_weight(node)
    assert weight is not None
    return weight


def _may_scale(source: ir.Value) -> bool:
    """Whether factors may stand in front of the quantiser: behind an activation function that one Linear reads."""
    producer = source.producer()
    return producer is not None and producer.op_type in ("Gelu", "Relu", "Mul") and len(source.uses()) == 1
