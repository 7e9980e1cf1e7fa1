"""SegmentFit: the sites of a segment, each fitted to do to its quantised inputs what the float site does to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.core.errors import CalibrationError
from edgevit.core.quantization import Observer, Products, Quantization
from edgevit.graph.carried import CARRIED
from edgevit.graph.graph import is_made_by, operand
from edgevit.graph.linears import STACK, read_weight, trace_layout, weight_of
from edgevit.graph.segments import Segment, SegmentRunner, extract_segment
from edgevit.quantize.carried_sites import HEAVY_SHARE, find_float_reason, list_convs, weigh_linears
from edgevit.quantize.methods.attention_centring import Attention, center_attention, find_attention
from edgevit.quantize.methods.channel_equalization import (
    balance_factors,
    equalize_products,
    equalize_values,
    find_queries,
)
from edgevit.quantize.methods.conv_fit import fit_conv
from edgevit.quantize.methods.linear_fit import choose_factors, fit_linears
from edgevit.quantize.methods.norm_scale import choose_norm_scale, find_norm_readers, fold_norm_scale
from edgevit.quantize.methods.operand_range import OperandRange
from edgevit.quantize.methods.product_fit import fit_product, resizes_map
from edgevit.quantize.methods.weight_scale import find_group
from edgevit.quantize.observers import OBSERVERS
from edgevit.quantize.placement import Placement
from edgevit.quantize.plan import QuantizationPlan, SitePlan
from edgevit.quantize.site_inputs import count_rows, find_tap, keeps_rows, may_scale, reads_image
from edgevit.quantize.statistics import TensorStatistics
from edgevit.quantize.stream_block import reuse_block
from edgevit.quantize.token_importance import Importance

Values = npt.NDArray[np.float32]

_ROWS = 24576  # tokens that a Linear is fitted on, at most: eight for each input channel of ViT-B's widest
_CENTRE_IMAGES = 64
_MAP_IMAGES = 16  # whose maps a convolution's bias is corrected on


class SegmentFit:
    """Fits the sites of a graph segment by segment, in the order of execution.

    Args:
        plan: Gets the sites.
        placement: The engine library's grids.
        quantization: The recipe's decisions.
        products: Those of attention that it quantises.
        pins: Its choice by site.
        observers: Its observer by site, where it names one.
        reasons: Is told why sites stay float.
        importance: For the observer ``loss``, for the items of the stream in their order.
        generator: Of the sample of tokens.
        judges: How many images, the first of the stream, judge the plan: constants that are the largest values seen
            would flatter them.

    Attributes:
        judged: Sites as they would be, had the images that judge not been seen: what a search is to measure.
    """

    def __init__(
        self,
        plan: QuantizationPlan,
        placement: Placement,
        quantization: Quantization,
        products: Products,
        pins: Mapping[str, str],
        observers: Mapping[str, Observer],
        reasons: dict[str, str],
        importance: Importance,
        generator: np.random.Generator,
        judges: int = 0,
    ) -> None:
        self.judged: dict[str, SitePlan] = {}
        self._judges = judges
        self._plan, self._placement, self._quantization = plan, placement, quantization
        self._pins, self._observers, self._importance, self._generator = pins, observers, importance, generator
        self._products = "float" if quantization.activations == "float" else products
        self._reasons = reasons
        self._heavy = False  # whether the Linears around an encoder are
        # Of the segment that is fitted, by the values' names:
        self._tokens: dict[str, Values] = {}
        self._shares: dict[str, Values] = {}  # of the tokens, how much each counts
        self._statistics: dict[str, TensorStatistics] = {}
        self._operands: dict[str, OperandRange] = {}
        self._maps: dict[str, list[Values]] = {}  # of some images

    def run(self, segment: Segment, stream: list[npt.NDArray[np.generic]]) -> None:
        """Fit on what enters the segment, an item for each image, and put in its place what leaves it."""
        if self._products != "float":
            if self._quantization.center_attention:
                _center_attention(segment, stream)
            if self._quantization.equalize:
                _equalize_channels(segment, stream)
        if self._quantization.activations != "float" and self._quantization.equalize:
            self._equalize_values(segment, stream)
        if self._quantization.norm_scale:
            _scale_norms(segment, stream)
        self._fit(segment, stream, self._list_groups(segment), ())

    def run_carried(self, whole: Segment, images: list[npt.NDArray[np.generic]]) -> None:
        """Fit the sites of what surrounds an encoder on what enters the graph as a whole; ``images`` is used up."""
        self._heavy = weigh_linears(whole.nodes) >= HEAVY_SHARE
        convs = list_convs(whole, self._placement, self._pins, self._quantization, self._reasons)
        self._fit(whole, images, self._list_groups(whole, carried=True), convs)

    def _fit(
        self,
        segment: Segment,
        stream: list[npt.NDArray[np.generic]],
        groups: Sequence[Sequence[ir.Node]],
        convs: Sequence[ir.Node],
    ) -> None:
        self._observe(segment, stream, groups, convs)
        for node in convs:
            self._fit_conv(node)
        for group in groups:
            node = group[0]
            if read_weight(node) is None:
                self._fit_product(node)
            else:
                self._fit_linears(group)

    def _observe(
        self,
        segment: Segment,
        stream: list[npt.NDArray[np.generic]],
        groups: Sequence[Sequence[ir.Node]],
        convs: Sequence[ir.Node],
    ) -> None:
        """Of the Linears' inputs a sample of tokens and what observers want, of the products' operands the ranges."""
        linears = [group for group in groups if read_weight(group[0]) is not None]
        products = [group[0] for group in groups if read_weight(group[0]) is None]
        taps = {find_tap(group[0]): len(weight_of(group[0])) for group in linears}
        self._statistics = {find_tap(group[0]): TensorStatistics() for group in linears if self._is_observed(group)}
        operands = (v for node in products for v in node.inputs if v is not None and v.const_value is None)
        self._operands = {v.name: OperandRange() for v in operands if v.name}
        counted = {find_tap(group[0]): rows for group in linears if (rows := self._count_tokens(group)) is not None}
        maps = list(dict.fromkeys(operand(node).name or "" for node in convs))
        self._statistics |= {name: TensorStatistics() for name in maps if name not in self._statistics}
        self._maps = {name: [] for name in maps}
        names = list(dict.fromkeys([*taps, *self._operands, *maps]))
        for place, out in enumerate(_capture(segment, stream, names)):
            seen = dict(zip(names, out[1:], strict=True))
            for tap, width in taps.items():
                every = seen[tap].reshape(-1, width)
                kept = self._draw(len(every), len(stream))
                if not place:
                    self._tokens[tap] = np.empty((len(stream), len(kept), width), np.float32)
                    self._shares[tap] = np.ones((len(stream), len(kept)), np.float32)
                self._tokens[tap][place] = every[kept]
                if tap in counted and counted[tap].shape[1] == len(every):
                    self._shares[tap][place] = counted[tap][place, kept]
            for tap, statistics in self._statistics.items():
                statistics.add(seen[tap])
            for name, reach in self._operands.items():
                reach.add(seen[name], judges=place < self._judges)
            for name, kept_maps in self._maps.items():
                if place < _MAP_IMAGES:
                    kept_maps.append(seen[name])
            if not place:
                block = reuse_block(stream, out[0].shape)
            block[place] = out[0]
            stream[place] = block[place]
        self._tokens = {tap: values.reshape(-1, values.shape[-1]) for tap, values in self._tokens.items()}
        self._shares = {tap: shares.ravel() for tap, shares in self._shares.items()}
        # The smallest and the largest, as a mask of all would be a quarter as large as the tokens.
        bad = [tap for tap, values in self._tokens.items() if not np.isfinite([values.min(), values.max()]).all()]
        bad += [tap for tap, statistics in self._statistics.items() if not statistics.finite and tap not in bad]
        if bad:
            raise CalibrationError(f"activations of {', '.join(bad)} are not finite", "the checkpoint may be damaged")

    def _equalize_values(self, segment: Segment, inputs: Sequence[npt.NDArray[np.generic]]) -> None:
        for attention in _find_attentions(segment):
            if not self._is_wanted(attention.output):
                continue
            weight = weight_of(attention.output)
            few, tap = inputs[:_CENTRE_IMAGES], find_tap(attention.output)
            taken = (out[1].reshape(-1, len(weight)) for out in _capture(segment, few, [tap]))
            tokens = np.concatenate([every[self._draw(len(every), len(few))] for every in taken])
            equalize_values(attention, choose_factors(tokens, weight, self._placement, self._quantization))

    def _list_groups(self, segment: Segment, *, carried: bool = False) -> list[list[ir.Node]]:
        """Linears that read the same value are fitted together, a product by itself."""
        groups: dict[ir.Value | ir.Node, list[ir.Node]] = {}
        for node in segment.nodes:
            own = (node.name or "").startswith(CARRIED) == carried
            if own and node.op_type in ("MatMul", "Gemm") and self._is_wanted(node):
                shared = node if read_weight(node) is None else trace_layout(operand(node))
                groups.setdefault(shared, []).append(node)
        return list(groups.values())

    def _fit_product(self, node: ir.Node) -> None:
        gain, name = self._quantization.row_gain, node.name or ""
        self._plan.sites[name] = fit_product(node, self._operands, self._placement, row_gain=gain)
        if is_made_by(node.inputs[0], "Softmax"):
            self.judged[name] = fit_product(node, self._operands, self._placement, row_gain=gain, judged=True)

    def _fit_conv(self, node: ir.Node) -> None:
        value = operand(node)
        name, source = value.name or "", trace_layout(value).name or ""
        self._plan.sites[node.name or ""] = fit_conv(
            node, source, self._statistics[name], self._maps[name], self._placement, self._quantization.rounding
        )

    def _is_wanted(self, node: ir.Node) -> bool:
        name = node.name or ""
        if read_weight(node) is None and name not in self._pins:
            wanted = {"float": (), "scores": ("/scores",), "both": ("/scores", "/context")}[self._products]
            return name.endswith(wanted) or (self._products == "both" and resizes_map(node))
        reason = self._explain_float(node, name)
        if reason:
            self._reasons[name] = reason
        return not reason

    def _explain_float(self, node: ir.Node, name: str) -> str:
        """Why a site stays float; empty where it is quantised."""
        pin, weight = self._pins.get(name), read_weight(node)
        if pin == "float":
            return "the recipe keeps it float"
        quantized = self._quantization.activations == "int8"
        if quantized and reads_image(node) and self._placement.image is None:  # whatever the recipe says
            return "the engine takes no unsigned input"
        if weight is not None and weight.ndim != 2:
            return STACK
        if pin is not None or weight is None:
            return ""
        if self._quantization.weight_bits == 4 and find_group(len(weight), self._quantization.weight_group) is None:
            return f"{len(weight)} input channels cannot be cut into groups of 16 or more"
        if min(weight.shape) < self._placement.smallest_dimension:
            return f"a matrix of {' × '.join(map(str, weight.shape))} is no faster in INT8"
        if quantized and count_rows(node) < self._placement.smallest_rows:
            return "a Linear of one row is no faster in INT8"
        return find_float_reason(node, self._placement, heavy=self._heavy) if quantized else ""

    def _fit_linears(self, group: Sequence[ir.Node]) -> None:
        source = trace_layout(operand(group[0]))
        tap, observer = find_tap(group[0]), self._find_observer(group)
        shares = self._shares.pop(tap)
        fitted = fit_linears(
            group,
            self._tokens.pop(tap),
            self._placement,
            dataclasses.replace(self._quantization, observer=observer),
            image=reads_image(group[0]),
            scalable=may_scale(source),
            statistics=self._statistics.get(tap),
            shares=shares if observer == "loss" else None,
        )
        for node, site in zip(group, fitted, strict=True):
            inputs = (source.name or "",) if site.grids else ()
            self._plan.sites[node.name or ""] = dataclasses.replace(site, inputs=inputs)

    def _find_observer(self, group: Sequence[ir.Node]) -> Observer:
        """Of the range that the Linears share: the recipe's for the first that it names, else for all."""
        named = (self._observers.get(node.name or "") for node in group)
        return next(filter(None, named), self._quantization.observer)

    def _is_observed(self, group: Sequence[ir.Node]) -> bool:
        """Whether an observer chooses the range of what the Linears read."""
        floats = self._quantization.activations == "float"
        return self._find_observer(group) in OBSERVERS and not floats and not reads_image(group[0])

    def _draw(self, tokens: int, images: int) -> npt.NDArray[np.int64]:
        """Which tokens of an image are kept."""
        return np.sort(self._generator.choice(tokens, max(1, min(tokens, _ROWS // images)), replace=False))

    def _count_tokens(self, group: Sequence[ir.Node]) -> Values | None:
        """How much each token of a group's input counts, ``(items, T)``; ``None`` where that is not known.

        What is known is the importance of a Linear's own rows; a Gather in front of it has them in another order.
        """
        rows = [
            self._importance[node.name or ""] for node in group if node.name in self._importance and keeps_rows(node)
        ]
        return np.sum(rows, axis=0, dtype=np.float32) if rows and len({r.shape for r in rows}) == 1 else None


def _capture(
    segment: Segment, inputs: Sequence[npt.NDArray[np.generic]], taps: Sequence[str]
) -> Iterable[list[Values]]:
    """For each input what leaves the segment, then the taps."""
    runner = SegmentRunner(extract_segment(segment, taps))
    for value in inputs:
        yield runner.run(value)


def _find_attentions(segment: Segment) -> Iterable[Attention]:
    for node in segment.nodes:
        attention = find_attention(node) if (node.name or "").endswith("/context") else None
        if attention is not None:
            yield attention


def _center_attention(segment: Segment, inputs: Sequence[npt.NDArray[np.generic]]) -> None:
    for attention in _find_attentions(segment):
        taps = [_output_name(attention.keys), _output_name(attention.values)]
        sums = [
            [tap.reshape(-1, tap.shape[-1]).mean(axis=0, dtype=np.float64) for tap in taken[1:]]
            for taken in _capture(segment, inputs[:_CENTRE_IMAGES], taps)
        ]
        key_mean, value_mean = (np.mean([s[i] for s in sums], axis=0).astype(np.float32) for i in (0, 1))
        center_attention(attention, key_mean, value_mean)


def _equalize_channels(segment: Segment, inputs: Sequence[npt.NDArray[np.generic]]) -> None:
    for attention in _find_attentions(segment):
        queries = find_queries(attention)
        if queries is None:
            continue
        taps = [_output_name(queries), _output_name(attention.keys)]
        largest = [np.zeros(1, np.float32), np.zeros(1, np.float32)]
        for taken in _capture(segment, inputs[:_CENTRE_IMAGES], taps):
            seen = (np.abs(tap).reshape(-1, tap.shape[-1]).max(axis=0) for tap in taken[1:])
            largest = [np.maximum(a, b) for a, b in zip(largest, seen, strict=True)]
        equalize_products(queries, attention.keys, balance_factors(*largest, rotation=attention.rotation))


def _scale_norms(segment: Segment, inputs: Sequence[npt.NDArray[np.generic]]) -> None:
    for node in segment.nodes:
        readers = find_norm_readers(node) if node.op_type == "LayerNormalization" else None
        if readers is None or not set(readers) <= set(segment.nodes):
            continue
        tap = node.outputs[0].name or ""
        seen = [out[1] for out in _capture(segment, inputs[:_CENTRE_IMAGES], [tap])]
        low, high = (
            reduce([reduce(v.reshape(-1, v.shape[-1]), axis=0) for v in seen], axis=0) for reduce in (np.min, np.max)
        )
        fold_norm_scale(node, readers, *choose_norm_scale(low, high))


def _output_name(linear: ir.Node) -> str:
    """Of a Linear's output with its bias."""
    return next(iter(linear.outputs[0].uses())).node.outputs[0].name or ""
