"""State deformable attention's weighted sum of sampled points as a sum of maps, one for each level and point.

Exporters write what the papers' code does (Deformable DETR, :func:`multi_scale_deformable_attention` of transformers):
sample ``(N, D, Q, P)`` of every level, stack the levels to ``(N, D, Q, L·P)``, multiply by ``(N, 1, Q, L·P)`` and add
up the last axis. Rows of 4 to 12 numbers are slow: of each layer of Mask2Former on Swin-T at 384 × 384 stacking and
adding up took OpenVINO 12 of 24 ms, where the sampling took 6. Sampled point by point, ``(N, D, 1, Q)`` each, all that
follows is one element-wise kernel: 9 ms.

The sum is the same, in another order: exact but for rounding.

Scope: samples of one value of locations ``(Q, N, L, P, 2)`` and weights of one ``(Q, N, L·P)``, as all exporters of
transformers' models give them for one image; other arrangements are left with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.core.pass_record import PassRecord
from edgevit.graph.builder import Builder
from edgevit.graph.graph import Graph, is_made_by, known_shape, operand, reduced_axes, static_shape
from edgevit.graph.movement import strip_reshapes, trace
from edgevit.graph.passes.visit import visit_nodes
from edgevit.graph.patterns.pieces import MismatchError


def restate_deformable_attention(graph: Graph) -> PassRecord:
    """Rewrite in place."""
    return visit_nodes(graph, "restate_deformable_attention", lambda node: _rewrite(graph, node))


def _rewrite(graph: Graph, node: ir.Node) -> bool:
    product = node.inputs[0].producer() if node.op_type == "ReduceSum" and node.inputs[0] is not None else None
    if product is None or product.op_type != "Mul":
        return False
    for samples, weights in (product.inputs, product.inputs[::-1]):
        found = _find_samples(samples)
        if found and weights is not None:
            break
    else:
        return False
    shape = static_shape(found[0].outputs[0])
    if shape is None or known_shape(product.outputs[0]) != (*shape[:3], len(found) * shape[3]):
        raise MismatchError(node, "its samples are not (N, D, Q, P) of each level, or their shapes are not static")
    if reduced_axes(node) not in ((-1,), (3,)) or len(product.outputs[0].uses()) != 1:
        raise MismatchError(node, "it does not add up the points, or something else reads them")
    count, _, queries, points = shape
    places = len(found) * points
    grids = [_follow(operand(sample, 1), node) for sample in found]
    source, table = grids[0][0], np.stack([index for _, index in grids], axis=2)  # (N, Q, L, P, 2)
    if any(other is not source for other, _ in grids) or not _is_by_query(table.reshape(count, queries, -1)):
        raise MismatchError(node, "the locations of its levels are not one value of queries, heads, levels and points")
    factors, order = _follow(weights, node)
    if order.shape != (count, 1, queries, places) or not _is_by_query(order[:, 0]):
        raise MismatchError(node, "its weights are not one value of queries, heads, levels and points")

    build = Builder(graph, node.name or "", node)
    turned = _turn(build, source, (queries, count * places, 2), "turned_locations")
    locations = _cut(build, build.reshape(turned, (count, places, queries, 2), "by_point"), "location")
    turned = _turn(build, factors, (queries, count * places), "turned_weights")
    shares = _cut(build, build.reshape(turned, (count, places, 1, queries), "weight_by_point"), "weight")
    total: ir.Value | None = None
    for place, (location, share) in enumerate(zip(locations, shares, strict=True)):
        sample, size = found[place // points], (count, shape[1], 1, queries)
        options = {name: item.value for name, item in sample.attributes.items()}
        seen = build.add("GridSample", [operand(sample), location], f"sample.{place}", size, **options)
        part = build.add("Mul", [seen, share], f"weighted.{place}", size)
        total = part if total is None else build.add("Add", [total, part], f"sum.{place}", size)
    assert total is not None
    old = node.outputs[0]
    build.insert(node, old, build.reshape(total, known_shape(old), "shaped"))
    return True


def _find_samples(value: ir.Value | None) -> list[ir.Node]:
    """The GridSamples whose results, ``(N, D, Q, P)`` each, a value holds level by level; none where it does not."""
    value = strip_reshapes(value) if value is not None else None
    if is_made_by(value, "GridSample"):
        assert value is not None
        levels = [value]
    elif is_made_by(value, "Concat"):
        assert value is not None
        concat = value.producer()
        assert concat is not None
        shape = static_shape(value)
        if shape is None or len(shape) != 5 or concat.attributes.get_int("axis", 0) % 5 != 3:
            return []
        levels = [strip_reshapes(part) for part in concat.inputs if part is not None]
    else:
        return []
    found = [level.producer() for level in levels]
    samples = [node for node in found if node is not None and node.op_type == "GridSample"]
    return samples if len(samples) == len(levels) and len({static_shape(v) for v in levels}) == 1 else []


def _follow(value: ir.Value, node: ir.Node) -> tuple[ir.Value, npt.NDArray[np.int64]]:
    """What was computed, and which of its numbers stands at each place of a value."""
    try:
        view = trace(value, arithmetic=False)
    except ValueError as exc:
        raise MismatchError(node, str(exc)) from exc
    if view.source is None or not view.moves_alone:
        raise MismatchError(node, "its locations or weights are constant")
    return view.source, view.index


def _is_by_query(table: npt.NDArray[np.int64]) -> bool:
    """Whether ``(N, Q, X)`` of numbers of a source are all of it, in the order ``(Q, N, X)``."""
    count, queries, rest = table.shape
    return bool((table.transpose(1, 0, 2).reshape(-1) == np.arange(count * queries * rest)).all())


def _turn(build: Builder, source: ir.Value, shape: tuple[int, ...], name: str) -> ir.Value:
    """Queries behind what belongs to each of them."""
    flat, order = build.reshape(source, shape, f"{name}.flat"), (1, 0, *range(2, len(shape)))
    return build.add("Transpose", [flat], name, [shape[axis] for axis in order], perm=order)


def _cut(build: Builder, value: ir.Value, name: str) -> Sequence[ir.Value]:
    """The parts of a value along its second axis."""
    shape = known_shape(value)
    sizes = build.constant(f"{name}s", np.ones(shape[1], np.int64))
    node = ir.node("Split", [value, sizes], {"axis": 1}, num_outputs=shape[1])
    node.name = f"{build.stem}/{name}s"
    node.metadata_props.update(build.like.metadata_props)
    for place, part in enumerate(node.outputs):
        part.name, part.type, part.shape = f"{node.name}.{place}", value.type, ir.Shape([shape[0], 1, *shape[2:]])
    build.nodes.append(node)
    return node.outputs
