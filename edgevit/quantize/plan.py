"""QuantizationPlan: grids, weights and biases by site, and the graph with the Q/DQ pairs of a plan.

A plan knows every site that could be quantised; which of them are is the caller's choice, so that a site can be set
back to float, or be the only one that is quantised, without calibrating again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from edgevit.graph.convolutions import CONVOLUTIONS, output_axis
from edgevit.graph.graph import Graph, is_made_by, operand
from edgevit.graph.linears import find_bias, find_bias_value, is_transposed, trace_layout
from edgevit.graph.moves import LAYOUT_OPS

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgevit.quantize.grid import FloatGrid, Grid

_INT4_OPSET = 21  # the first with INT4 and blocks of DequantizeLinear


@dataclass(frozen=True)
class Affine:
    """``x → (x − center) · factor`` in front of a quantiser, undone by the Linear behind it.

    Attributes:
        center: ``(C,)`` or a scalar.
        factor: ``(C,)`` or a scalar, above 0.
    """

    center: npt.NDArray[np.float32]
    factor: npt.NDArray[np.float32]


@dataclass(frozen=True)
class SitePlan:
    """How one site is quantised.

    Attributes:
        inputs: Names of the values that are quantised for it, traced back through layout ops: its activation, or both
            operands of a product.
        grids: One for each input.
        weight: ``(K, N)``, for a Linear: ``int8``, in which 4-bit codes are −7 … 7, or ``float8_e4m3fn``. Of a
            convolution ``int8`` in its own shape.
        scale: ``(N,) float32``; of 4-bit codes ``(G, N)``, a row for every K / G input channels.
        bias: ``(N,) float32`` instead of the Linear's own.
        affine: In front of the first input's quantiser.
        gain: For a product of probabilities and values: multiplies the probabilities in front of their quantiser and
            is divided out of the result; ``(1, A, N, 1) float32``.
    """

    inputs: tuple[str, ...]
    grids: tuple[Grid | FloatGrid, ...]
    weight: npt.NDArray[Any] | None = None
    scale: npt.NDArray[np.float32] | None = None
    bias: npt.NDArray[np.float32] | None = None
    affine: Affine | None = None
    gain: npt.NDArray[np.float32] | None = None


@dataclass
class QuantizationPlan:
    """Sites in the order of execution."""

    sites: dict[str, SitePlan] = field(default_factory=dict)
    at: str = "producer"


def spread_scale(scale: npt.NDArray[np.float32], channels: int) -> npt.NDArray[np.float32]:
    """A :class:`SitePlan`'s ``scale`` for each of ``channels`` input channels: ``(K, N)``, or ``(N,)`` as it is."""
    return scale if scale.ndim == 1 else np.repeat(scale, channels // len(scale), axis=0)


def apply_plan(graph: Graph, plan: QuantizationPlan, sites: Collection[str] | None = None) -> Graph:
    """Put in the Q/DQ pairs of some sites.

    One pair stands behind a tensor and is shared by all its readers; where one of them is float, every quantised reader
    has the pair at its own input.

    Args:
        graph: The float graph that the plan was made from, or a segment of it; not changed.
        plan: For sites of the graph.
        sites: Those to quantise; by default all of the plan's. Names that are not in the graph are left out.
    """
    result = graph.copy()
    nodes = {node.name: node for node in result.model.graph}
    chosen = {name: plan.sites[name] for name in plan.sites if name in nodes and (sites is None or name in sites)}
    for name, site in chosen.items():
        if site.weight is not None:
            _set_weight(result, nodes[name], site)
    shared: dict[str, ir.Value] = {}
    for name, site in chosen.items():
        node = nodes[name]
        for place, grid in enumerate(site.grids):
            value = operand(node, place)
            if grid.scale == 1.0 and is_made_by(value, "Cast"):
                _read_bytes(result, node, place)
                continue
            source = trace_layout(value)
            if any(source is twin for twin in shared.values()):
                continue  # a site before this one has put the pair behind the tensor
            readers = list_readers(source)
            behind = plan.at == "producer" and all(reader.name in chosen for reader in readers)
            where = source if behind else value
            if site.affine is not None and place == 0:
                where = _insert_affine(result, where, site.affine, node)
            if site.gain is not None and place == 0:
                where = _insert_gain(result, where, site.gain, node)
            key = f"{where.name}|{grid}"
            if key not in shared:
                shared[key] = _insert_pair(result, where, grid, before=None if behind else node)
            if behind:
                replace_readers(where, shared[key])
            else:
                node.replace_input_with(place, shared[key])
    return result


def list_readers(value: ir.Value) -> list[ir.Node]:
    """The computing nodes that read a value, through layout ops and Q/DQ pairs that are there already."""
    found: list[ir.Node] = []
    for use in value.uses():
        node = use.node
        passes = node.op_type in LAYOUT_OPS or node.op_type in ("QuantizeLinear", "DequantizeLinear")
        found += list_readers(node.outputs[0]) if passes and use.idx == 0 else [node]
    return found


def replace_readers(value: ir.Value, twin: ir.Value) -> None:
    """Give the output of a pair behind a value to all that read the value, but the pair itself."""
    producer = twin.producer()
    assert producer is not None
    quantize = producer.inputs[0].producer() if producer.inputs[0] is not None else None
    for use in list(value.uses()):
        if use.node is not quantize:
            use.node.replace_input_with(use.idx, twin)


def _typed(node: ir.Node, name: str, dtype: ir.DataType, like: ir.Value) -> ir.Value:
    out = node.outputs[0]
    out.name, out.dtype, out.shape = name, dtype, like.shape
    return out


def _insert_pair(graph: Graph, value: ir.Value, grid: Grid | FloatGrid, before: ir.Node | None) -> ir.Value:
    """Q and DQ behind a value; gives the DQ's output."""
    stem = value.name if before is None else f"{value.name}/{before.name}"
    scale = graph.share_constant(f"{stem}.scale", np.asarray(grid.scale, np.float32))
    zero = graph.share_constant(f"{stem}.zero_point", np.asarray(grid.zero_point, grid.dtype))
    quantize = ir.node("QuantizeLinear", [value, scale, zero], name=f"{stem}/quantize")
    codes = _typed(quantize, f"{stem}/codes", ir.DataType.from_numpy(grid.dtype), value)
    dequantize = ir.node("DequantizeLinear", [codes, scale, zero], name=f"{stem}/dequantize")
    result = _typed(dequantize, f"{stem}/dequantized", ir.DataType.FLOAT, value)
    insert_behind(graph, value, before, (quantize, dequantize))
    return result


def insert_behind(graph: Graph, value: ir.Value, before: ir.Node | None, made: Iterable[ir.Node]) -> None:
    """Put nodes in front of one reader of a value, or right behind its producer."""
    inner, producer = graph.model.graph, value.producer()
    if before is not None:
        inner.insert_before(before, list(made))
    elif producer is not None:
        inner.insert_after(producer, list(made))
    else:
        inner.insert_before(inner[0], list(made))


def _insert_affine(graph: Graph, value: ir.Value, affine: Affine, reader: ir.Node) -> ir.Value:
    """``(value − center) · factor``, for the one site that reads it."""
    made: list[ir.Node] = []
    current = value
    for op, word, numbers, nothing in (("Sub", "center", affine.center, 0.0), ("Mul", "factor", affine.factor, 1.0)):
        if np.all(numbers == nothing):
            continue
        constant = graph.share_constant(f"{reader.name}.{word}", numbers)
        node = ir.node(op, [current, constant], name=f"{reader.name}/{word}")
        current = _typed(node, node.name or "", ir.DataType.FLOAT, value)
        made.append(node)
    if made:
        uses = [use for use in value.uses() if use.node is not made[0]]
        insert_behind(graph, value, None, made)
        for use in uses:
            use.node.replace_input_with(use.idx, current)
    return current


def _insert_gain(graph: Graph, value: ir.Value, gain: npt.NDArray[np.float32], product: ir.Node) -> ir.Value:
    """``value · gain`` in front of a product, and the product's result divided by it."""
    raised = ir.node("Mul", [value, graph.share_constant(f"{product.name}.gain", gain)], name=f"{product.name}/gain")
    current = _typed(raised, f"{product.name}/gain", ir.DataType.FLOAT, value)
    graph.model.graph.insert_before(product, [raised])
    product.replace_input_with(0, current)
    result = product.outputs[0]
    readers = list(result.uses())
    inverse = graph.share_constant(f"{product.name}.inverse_gain", (1 / gain).astype(np.float32))
    lowered = ir.node("Mul", [result, inverse], name=f"{product.name}/inverse_gain")
    twin = _typed(lowered, f"{product.name}/inverse_gain", ir.DataType.FLOAT, result)
    graph.model.graph.insert_after(product, [lowered])
    for use in readers:
        use.node.replace_input_with(use.idx, twin)
    if result.is_graph_output():
        graph.model.graph.outputs[list(graph.model.graph.outputs).index(result)] = twin
    return current


def _read_bytes(graph: Graph, node: ir.Node, place: int) -> None:
    """The uint8 image as it is: a DequantizeLinear of scale 1 in the place of its Cast."""
    value = operand(node, place)
    cast = value.producer()
    assert cast is not None
    scale = graph.share_constant("image.scale", np.asarray(1.0, np.float32))
    zero = graph.share_constant("image.zero_point", np.asarray(0, np.uint8))
    dequantize = ir.node("DequantizeLinear", [cast.inputs[0], scale, zero], name="image/dequantize")
    graph.model.graph.insert_before(node, [dequantize])
    node.replace_input_with(place, _typed(dequantize, "image/dequantized", ir.DataType.FLOAT, value))
    if not value.uses():
        graph.model.graph.remove(cast)


def _set_weight(graph: Graph, node: ir.Node, site: SitePlan) -> None:
    assert site.weight is not None
    assert site.scale is not None
    inner, old = graph.model.graph, operand(node, 1)
    transposed = is_transposed(node)
    axis = output_axis(node) if node.op_type in CONVOLUTIONS else int(not transposed)
    codes = np.ascontiguousarray(site.weight.T if transposed else site.weight)
    scale = np.ascontiguousarray(site.scale.T if transposed else site.scale, np.float32)
    grouped = site.scale.ndim == 2
    if grouped:
        inner.opset_imports[""] = max(_INT4_OPSET, inner.opset_imports[""])
        codes = codes.astype(ir.DataType.INT4.numpy())
    inputs = [
        graph.share_constant(f"{node.name}.weight.codes", codes),
        graph.share_constant(f"{node.name}.weight.scale", scale),
    ]
    if grouped:
        places = {"axis": int(transposed), "block_size": len(site.weight) // len(site.scale)}
    else:
        places = {"axis": axis}
        inputs.append(graph.share_constant(f"{node.name}.weight.zero_point", np.zeros(len(site.scale), codes.dtype)))
    dequantize = ir.node("DequantizeLinear", inputs, places, name=f"{node.name}/weight")
    inner.insert_before(node, [dequantize])
    node.replace_input_with(1, _typed(dequantize, f"{node.name}/weight", ir.DataType.FLOAT, old))
    if not old.uses():
        inner.initializers.pop(old.name or "")
    bias = find_bias_value(node)
    if site.bias is not None and bias is not None:
        twin = graph.share_constant(f"{bias.name}.corrected", site.bias.astype(np.float32))
        for use in list(bias.uses()):
            if use.node is node or use.node is find_bias(node):
                use.node.replace_input_with(use.idx, twin)
        if not bias.uses():
            inner.initializers.pop(bias.name or "")
