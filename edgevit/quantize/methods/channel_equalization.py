"""Bring the channels of queries and keys to the same ranges before they are quantised, and those of values closer.

Exact in float. One grid serves all channels of a tensor and is as wide as the widest. A channel of the queries may be
multiplied by any factor that the same channel of the keys is divided by: their product keeps its value. Both Linears
take the factors into their weights. Where keys are rotated by their places, the two channels that are turned together
have one factor, as only then the rotation does not change it. The idea is that of cross-layer equalisation (Nagel et
al., 2019, arXiv:1906.04721).

Values and the output projection are such a pair too, as attention mixes tokens and no channels. Here the whole range
wins nothing: what the grid of the projection's input gains, its weights lose. A power of the ranges wins 1.5 to 2.5 dB
at that projection in the first blocks of DeiT-Tiny, and none in others, so the factors are searched for like
SmoothQuant's (:mod:`edgevit.quantize.methods.smooth`), "off" among them.
The choice looks at the projection only. Where the product of probabilities and values is INT8 too, its grid of values
can lose by it: 2.8 dB at the logits in DeiT-Tiny's block 0, up to 2 in others, 0.8 for all of them together.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.graph.graph import operand
from edgevit.graph.linears import change_constant, find_bias_value, is_transposed, read_weight
from edgevit.graph.patterns.rotation import Rotation, find_rotation
from edgevit.quantize.methods.attention_centring import Attention, find_linear

Values = npt.NDArray[np.float32]

_LARGEST_FACTOR = 32.0


def find_queries(attention: Attention) -> ir.Node | None:
    """The Linear with a bias that computes an attention's queries; ``None`` where something else stands between."""
    queries = operand(attention.scores)
    turned = find_rotation(queries)
    linear = find_linear(queries if turned is None else turned.source)
    return linear if linear is not None and read_weight(linear) is not None else None


def balance_factors(queries: Values, keys: Values, *, rotation: Rotation | None = None) -> Values:
    """What queries are multiplied by and keys are divided by, so that both have the same ranges: ``(C,)``.

    Of both the largest magnitude seen of each channel is given, ``(C,)``, before they are rotated.
    """
    if rotation is not None:
        queries, keys = (_join_pairs(values, rotation.width) for values in (queries, keys))
    first, second = (np.maximum(v, max(float(v.max()), 1e-30) / _LARGEST_FACTOR) for v in (queries, keys))
    factors: Values = np.sqrt(second / first).astype(np.float32)
    return factors


def _join_pairs(largest: Values, width: int) -> Values:
    """Of the channels c and c + D/2 of every head the larger, for both."""
    halves = largest.reshape(-1, 2, width // 2)
    return np.broadcast_to(halves.max(axis=1, keepdims=True), halves.shape).reshape(-1)


def equalize_products(queries: ir.Node, keys: ir.Node, factors: Values) -> None:
    """Scale the output channels of both Linears in place, ``factors (C,)``; their products stay what they are."""
    _scale_outputs(queries, factors)
    _scale_outputs(keys, (1 / factors).astype(np.float32))


def equalize_values(attention: Attention, factors: Values) -> None:
    """Scale the values by ``factors (C,)`` and divide the output projection's rows by them, in place."""
    _scale_outputs(attention.values, factors)
    rows = (1 / factors).astype(np.float32)
    turned = is_transposed(attention.output)
    change_constant(attention.output.inputs[1], functools.partial(np.multiply, rows if turned else rows[:, None]))


def _scale_outputs(linear: ir.Node, factors: Values) -> None:
    columns = factors[:, None] if is_transposed(linear) else factors
    change_constant(linear.inputs[1], functools.partial(np.multiply, columns))
    if (bias := find_bias_value(linear)) is not None:
        change_constant(bias, functools.partial(np.multiply, factors))
