"""Queries or keys that rotary positions turn, however that is spelt: ``x · cos + x' · sin`` with constant factors.

x' are the channels of x in another order, some with their signs changed: halves (DINOv3) or neighbours (EVA-02) that
change places. Tokens in front of the patches may be left as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.graph.graph import constant_of, producer_of, static_shape
from edgevit.graph.movement import Index, View, trace_to

Numbers = npt.NDArray[np.float64]
_SPLITS = ("Slice", "Split")


@dataclass(frozen=True)
class Turned:
    """``source[…, n, d] · cos[n, d] + source[…, n, partner[d]] · sin[n, d]``.

    Attributes:
        source: Before it is turned, ``(…, N, D)``.
        cos: ``(N, D)``.
        sin: ``(N, D)``, with the signs of what changes places.
        partner: ``(D,)``.
    """

    source: ir.Value
    cos: Numbers
    sin: Numbers
    partner: Index

    def equals(self, other: Turned) -> bool:
        """Whether another value is turned in the same way."""
        tables = ((self.cos, other.cos), (self.sin, other.sin), (self.partner, other.partner))
        return all(one.shape == two.shape and np.allclose(one, two, atol=1e-6) for one, two in tables)


def find_turned(value: ir.Value) -> Turned | None:
    """How a value is turned; ``None`` where it is not, or not by constants that all heads share.

    Raises:
        ValueError: The shape of a value on the way is not static.
    """
    joined = producer_of(value)
    whole = joined is None or joined.op_type != "Concat"
    parts = [value] if whole or joined is None else [part for part in joined.inputs if part is not None]
    terms = _split_sum(parts[-1])
    if terms is None:
        return None
    source = terms[0] if whole else _find_whole(terms[0])
    shape = None if source is None else static_shape(source)
    if source is None or shape is None or len(shape) < 2 or shape != static_shape(value):
        return None
    ahead = [trace_to(part, source) for part in parts[:-1]]
    own, other = (trace_to(term, source) for term in terms[1:])
    views = [*ahead, own, other]
    if any(view.source is not source or view.offset is not None for view in views):
        return None
    if not all(view.moves_alone for view in ahead) or not _is_whole([*ahead, own]):
        return None
    return _read_tables(source, shape, own, other)


def _split_sum(value: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value] | None:
    """x, and the two terms of a sum, of which the first is x by a constant."""
    node = producer_of(value)
    if node is None or node.op_type != "Add" or any(v is None or constant_of(v) is not None for v in node.inputs):
        return None
    for first, second in (node.inputs, node.inputs[::-1]):
        product = producer_of(first)
        if product is None or product.op_type != "Mul" or first is None or second is None:
            continue
        for factor, constant in (product.inputs, product.inputs[::-1]):
            if factor is None or constant_of(constant) is None or constant_of(factor) is not None:
                continue
            if trace_to(second, factor).source is factor:
                return factor, first, second
    return None


def _find_whole(part: ir.Value) -> ir.Value | None:
    """What a part was cut off."""
    node = producer_of(part)
    return node.inputs[0] if node is not None and node.op_type in _SPLITS else None


def _is_whole(views: list[View]) -> bool:
    """Whether views follow one another along the axis of tokens, and are all of their source."""
    tokens = np.concatenate([view.index for view in views], axis=-2)
    return np.array_equal(tokens.reshape(-1), np.arange(tokens.size))


def _read_tables(source: ir.Value, shape: tuple[int, ...], own: View, other: View) -> Turned | None:
    tokens, width = shape[-2:]
    count = own.shape[-2]
    rows, partner = np.divmod(other.index, width)
    if not np.array_equal(rows, own.index // width) or not bool((partner == partner.reshape(-1, width)[0]).all()):
        return None
    factors = [np.broadcast_to(np.asarray(view.scale), view.shape).reshape(-1, count, width) for view in (own, other)]
    if not all(bool((factor == factor[:1]).all()) for factor in factors):
        return None
    cos, sin = np.ones((tokens, width)), np.zeros((tokens, width))
    cos[tokens - count :], sin[tokens - count :] = (factor[0] for factor in factors)
    return Turned(source, cos, sin, partner.reshape(-1, width)[0])
