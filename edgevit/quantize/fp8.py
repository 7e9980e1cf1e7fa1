"""plan_fp8: from a float graph and calibration images to a plan of its Q/DQ pairs of FP8 (E4M3).

An FP8 number has three bits of mantissa at every size, so a range that is twice too wide costs nothing but the smallest
numbers: a scale brings the largest magnitude that was seen to the largest number, and nothing that the INT8 quantiser
fits besides (grids, rotation, rounding against the inputs) would gain much. Sites are placed by the same table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from edgevit.core.errors import CalibrationError
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.quantization import Quantization, QuantizationRecord, SitePrecision, SiteRecord
from edgevit.graph.graph import Graph
from edgevit.graph.linears import is_transposed, read_weight, trace_layout
from edgevit.graph.segments import SegmentRunner, extract_segment, release_weights, split_graph
from edgevit.quantize.placement import PLACEMENTS
from edgevit.quantize.plan import insert_behind, list_readers, replace_readers
from edgevit.quantize.quantize import match_sites
from edgevit.quantize.sensitivity import choose_float, rank_groups, rank_sites
from edgevit.quantize.site_inputs import count_rows, reads_image

if TYPE_CHECKING:
    import numpy.typing as npt

LARGEST = 448.0
"""Of E4M3 (Micikevicius et al. 2022, FP8 Formats for Deep Learning)."""
_SCORING_IMAGES = 32  # that sites are chosen on
_KIND = ir.DataType.FLOAT8E4M3FN
_SMALLEST_SCALE = 2.0**-14  # float16's smallest normal number, as the scale becomes float16


def plan_fp8(
    graph: Graph,
    pixels: Iterable[npt.NDArray[np.uint8]],
    backend: str,
    pins: Mapping[str, str],
    *,
    products: bool = False,
    sqnr_db: float = Quantization.sqnr_db,
    float_share: float = 0.0,
    ranked: bool = False,
    progress: Progress = ignore_progress,
) -> tuple[Fp8Plan, QuantizationRecord]:
    """Find the scales, and which sites may be FP8; weights have a scale for each output channel.

    Args:
        graph: Optimised, float32; not changed.
        pixels: Calibration images, ``(B, H, W, 3) uint8`` each.
        backend: A key of :data:`edgevit.quantize.placement.PLACEMENTS`.
        pins: Sites or patterns that the recipe pins; what is pinned to ``float`` stays float.
        products: Also the operands of attention's products; probabilities have the scale 1/448.
        sqnr_db: Sites stay float, those first that make most noise for the time that FP8 saves there, until the logits
            keep this SQNR in dB on some of the images.
        float_share: The share of all sites' arithmetic that may stay float for it.
        ranked: Rank the sites also where ``float_share`` is 0 and so nothing depends on it yet.
        progress: Told about every segment.

    Returns:
        What to apply to the graph, also to sites that were left float for their noise; and what was quantised.

    Raises:
        CalibrationError: No images, or activations that are not finite, with their names.
        RecipeError: A pin that names no site.
    """
    images = list(pixels)
    if not images:
        raise CalibrationError("there are no calibration images", "give --calibration DATA")
    chosen, reasons = _choose_sites(graph, backend, pins, products=products)
    names = [trace_layout(v).name or "" for node in chosen for v in _list_operands(node)]
    largest = _observe(graph, names, images, progress)
    plan = Fp8Plan({node.name or "": tuple(_find_scale(v, largest) for v in _list_operands(node)) for node in chosen})
    damage: dict[str, float] = {}
    groups: dict[str, float] = {}
    fallback: tuple[str, ...] = ()
    if ranked or float_share > 0:
        order = np.random.default_rng(0).permutation(len(images))[:_SCORING_IMAGES]  # sets are listed class by class
        sample = [images[i] for i in order]
        damage = rank_sites(graph, plan, sample, progress)
        groups = rank_groups(graph, plan, sample, progress)
        choice = choose_float(
            graph, plan, sample, damage, sqnr_db=sqnr_db, share=float_share, pins=pins, progress=progress
        )
        fallback = choice.sites
        reasons.update(dict.fromkeys(fallback, "it makes much noise for the time that FP8 would save"))
    taken = [name for name in plan.sites if name not in fallback]
    records = []
    for site in graph.sites():
        precision: SitePrecision = "fp8" if site.name in taken else "float"
        records.append(SiteRecord(site.name, precision, reasons.get(site.name, ""), damage.get(site.name)))
    count = sum(len(item) for item in images)
    return plan, QuantizationRecord(count, sites=tuple(records), groups=groups, fallback=fallback)


@dataclass(frozen=True)
class Fp8Plan:
    """Which sites can be FP8, and how.

    Attributes:
        sites: By name, in the order of execution: the scale of a Linear's input, or of both operands of a product.
            Weights have scales of their own.
    """

    sites: Mapping[str, tuple[float, ...]]

    def apply(self, graph: Graph, sites: Collection[str]) -> Graph:
        """A copy of the graph, or of a segment of it, with the pairs of those of the sites that are in it."""
        result = graph.copy()
        chosen = [node for node in result.model.graph if node.name in sites and node.name in self.sites]
        operands = {node: _list_operands(node) for node in chosen}
        shared: dict[str, ir.Value] = {}
        for node in chosen:
            if _weight(node):
                _set_weight(result.model.graph, node)
            for place, (value, scale) in enumerate(zip(operands[node], self.sites[node.name or ""], strict=True)):
                _set_operand(result.model.graph, node, place, value, scale, shared, set(chosen))
        return result


def _find_scale(value: ir.Value, largest: Mapping[str, float]) -> float:
    """What brings the largest magnitude that was seen to the largest number; of probabilities always the same."""
    source = trace_layout(value)
    producer = source.producer()
    softmax = producer is not None and producer.op_type == "Softmax"
    return 1 / LARGEST if softmax else max(largest[source.name or ""] / LARGEST, _SMALLEST_SCALE)


def _list_operands(node: ir.Node) -> list[ir.Value]:
    """What gets a scale from calibration: a Linear's input, or both operands of a product."""
    return [v for v in node.inputs[: 1 if _weight(node) else 2] if v is not None]


def _choose_sites(
    graph: Graph, backend: str, pins: Mapping[str, str], *, products: bool
) -> tuple[list[ir.Node], dict[str, str]]:
    """Nodes to quantise, and why the others stay float."""
    placement = PLACEMENTS[backend]
    matched = match_sites([site.name for site in graph.sites()], pins)
    chosen, reasons = [], {}
    for node in graph.model.graph:
        if node.op_type not in ("MatMul", "Gemm"):
            continue
        name, weight = node.name or "", read_weight(node)
        reason = ""
        if matched.get(name) == "float":
            reason = "the recipe keeps it float"
        elif weight is None:
            reason = "" if products else "the engine fuses attention's products in float"
        elif reads_image(node):
            reason = "the engine takes no unsigned input"
        elif min(weight.shape) < placement.smallest_dimension:
            reason = f"a matrix of {' × '.join(map(str, weight.shape))} is no faster in FP8"
        elif count_rows(node) < placement.smallest_rows:
            reason = "a Linear of one row is no faster in FP8"
        if reason:
            reasons[name] = reason
        else:
            chosen.append(node)
    return chosen, reasons


def _weight(node: ir.Node) -> bool:
    return read_weight(node) is not None


def _observe(
    graph: Graph, names: Sequence[str], pixels: Sequence[npt.NDArray[np.uint8]], progress: Progress
) -> dict[str, float]:
    """The largest magnitude of every value."""
    stream: list[npt.NDArray[np.generic]] = list(pixels)
    largest = dict.fromkeys(names, 0.0)
    segments = split_graph(graph)
    for index, segment in enumerate(segments):
        progress("fp8 ranges", index, len(segments))
        made = [v.name or "" for node in segment.nodes for v in node.outputs]
        taps = [name for name in made if name in largest and name != segment.result.name]
        runner = SegmentRunner(extract_segment(segment, taps))
        for place, item in enumerate(stream):
            stream[place], *tapped = runner.run(item)
            for name, values in zip((segment.result.name or "", *taps), (stream[place], *tapped), strict=True):
                if name in largest:
                    seen = float(np.abs(values).max(initial=0.0))
                    largest[name] = seen if not seen <= largest[name] else largest[name]  # keeps what is no number
        release_weights(segment)
    progress("fp8 ranges", len(segments), len(segments))
    bad = [name for name, value in largest.items() if not np.isfinite(value)]
    if bad:
        raise CalibrationError(f"activations of {', '.join(bad)} are not finite", "the checkpoint may be damaged")
    return largest


def _set_operand(
    inner: ir.Graph,
    node: ir.Node,
    place: int,
    value: ir.Value,
    scale: float,
    shared: dict[str, ir.Value],
    chosen: set[ir.Node],
) -> None:
    """A pair behind the tensor where all its readers are quantised, otherwise in front of this one."""
    source = trace_layout(value)
    if any(source is twin for twin in shared.values()):
        return
    behind = all(reader in chosen for reader in list_readers(source))
    where = source if behind else value
    if where.name not in shared:
        shared[where.name or ""] = _insert_pair(inner, where, scale, None if behind else node)
    if behind:
        replace_readers(where, shared[where.name or ""])
    else:
        node.replace_input_with(place, shared[where.name or ""])


def _insert_pair(inner: ir.Graph, value: ir.Value, scale: float, before: ir.Node | None) -> ir.Value:
    stem = value.name if before is None else f"{value.name}/{before.name}"
    step = _constant(inner, f"{stem}.scale", np.asarray(scale, np.float32))
    zero = _constant(inner, f"{stem}.zero_point", np.zeros((), _KIND.numpy()))
    quantize = ir.node("QuantizeLinear", [value, step, zero], name=f"{stem}/quantize")
    codes = _describe(quantize, f"{stem}/codes", _KIND, value)
    dequantize = ir.node("DequantizeLinear", [codes, step, zero], name=f"{stem}/dequantize")
    result = _describe(dequantize, f"{stem}/dequantized", ir.DataType.FLOAT, value)
    insert_behind(inner, value, before, (quantize, dequantize))
    return result


def _set_weight(inner: ir.Graph, node: ir.Node) -> None:
    old, weight = node.inputs[1], read_weight(node)
    assert old is not None
    assert weight is not None
    scale = np.maximum(np.abs(weight).max(axis=0) / LARGEST, _SMALLEST_SCALE).astype(np.float32)
    codes = (weight / scale).astype(_KIND.numpy())
    transposed = is_transposed(node)
    inputs = [
        _constant(inner, f"{node.name}.weight.codes", np.ascontiguousarray(codes.T if transposed else codes)),
        _constant(inner, f"{node.name}.weight.scale", scale),
        _constant(inner, f"{node.name}.weight.zero_point", np.zeros(len(scale), _KIND.numpy())),
    ]
    dequantize = ir.node("DequantizeLinear", inputs, {"axis": int(not transposed)}, name=f"{node.name}/weight")
    inner.insert_before(node, [dequantize])
    node.replace_input_with(1, _describe(dequantize, f"{node.name}/weight", ir.DataType.FLOAT, old))
    if not old.uses():
        inner.initializers.pop(old.name or "")


def _constant(inner: ir.Graph, name: str, numbers: npt.NDArray[Any]) -> ir.Value:
    kind = ir.DataType.from_numpy(numbers.dtype)
    tensor = ir.tensor(numbers, name=name)
    value = ir.Value(name=name, shape=ir.Shape(numbers.shape), type=ir.TensorType(kind), const_value=tensor)
    inner.register_initializer(value)
    return value


def _describe(node: ir.Node, name: str, kind: ir.DataType, like: ir.Value) -> ir.Value:
    out = node.outputs[0]
    out.name, out.dtype, out.shape = name, kind, like.shape
    return out
