"""Rotary positions in a graph: ``x·cos + (−second half of x, first half)·sin`` with constant cosines and sines."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from edgevit.graph.graph import constant_of, is_made_by, operand, producer_of
from edgevit.graph.linears import trace_layout


@dataclass(frozen=True)
class Rotation:
    """What is turned, and how wide a head is.

    Attributes:
        source: x, ``(B, A, N, D)``.
        width: D. Channels c and c + D/2 of a head are turned together.
    """

    source: ir.Value
    width: int


def find_rotation(value: ir.Value) -> Rotation | None:
    """The rotation whose result is a value, behind layout ops; ``None`` where it is none."""
    add = trace_layout(value).producer()
    if add is None or add.op_type != "Add":
        return None
    factors = [_split_product(term) for term in add.inputs]
    for (source, cos), (halves, _) in (factors, factors[::-1]):
        if source is not None and cos is not None and halves is not None and _is_turned(halves, source):
            width = source.shape[-1] if source.shape is not None else None
            return Rotation(source, width) if isinstance(width, int) else None
    return None


def _split_product(value: ir.Value | None) -> tuple[ir.Value | None, ir.Value | None]:
    """The variable and the constant factor of a product."""
    product = producer_of(value)
    if product is None or product.op_type != "Mul":
        return None, None
    first, second = (operand(product, place) for place in (0, 1))
    if constant_of(first) is not None:
        first, second = second, first
    return (first, second) if constant_of(second) is not None else (None, None)


def _is_turned(halves: ir.Value, source: ir.Value) -> bool:
    """Whether a value is the second half of ``source`` with its sign changed, then the first."""
    joined = producer_of(halves)
    if joined is None or joined.op_type != "Concat" or len(joined.inputs) != 2:
        return False
    first, second = (operand(joined, place) for place in (0, 1))
    if not is_made_by(first, "Neg"):
        return False
    negated = producer_of(first)
    assert negated is not None
    parts = [producer_of(v) for v in (operand(negated), second)]
    return all(part is not None and part.op_type == "Slice" and part.inputs[0] is source for part in parts)
