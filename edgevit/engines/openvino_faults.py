"""Attentions that OpenVINO's CPU plugin is known to compute wrongly, found in a graph before it is compiled.

Measured with OpenVINO 2026.4.1 on lone attentions against numpy; ``scripts/check_openvino_attention.py`` does so again
and says whether a later version is mended. The causes are read in its sources. Both are in the fused attention:

``vector_bias``: where a processor multiplies matrices of bfloat16 (or of int8, with AMX), a constant of as many numbers
as there are keys that is added to the scores goes into the matrix kernel as a bias of its columns, and what comes out
is noise (−3 dB) or not finite. Such constants are (N,) and (1, 1, 1, N); also (1, A, Q, N) where a single query meets a
single head. A constant that is written out for heads or for queries is added right.

``in_place``: the result is written over the queries while they are still read, each in an order of its own (0 to 20
dB). It takes as many queries as heads, for then (B, Q, A, D) and (B, A, Q, D) are one shape; queries and result of one
type; operands that nothing else reads; and a transpose between heads and tokens that the kernel takes in on one side
only. In front of it every such transpose is taken in; behind it only one of float32 that reads the product directly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from edgevit.core.isa import TIERS, TierName
from edgevit.graph.graph import Graph, producer_of, static_shape

if TYPE_CHECKING:
    import onnx_ir as ir

Executed: TypeAlias = Literal["f32", "bf16", "f16"]
FaultName: TypeAlias = Literal["vector_bias", "in_place"]

_ADDITIONS, _FACTORS = ("Add", "Sub"), ("Mul", "Div")
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_PARTS = ("Split", "Slice")


@dataclass(frozen=True)
class Fault:
    """An attention that OpenVINO would compute wrongly.

    Attributes:
        name: Which of the two.
        site: The product of probabilities and values.
        reason: What is the matter with it, for people.
    """

    name: FaultName
    site: str
    reason: str


@dataclass(frozen=True)
class _Attention:
    """The nodes of ``softmax(q·kᵀ + bias)·v``, the shape ``(B, A, Q, N)``, and the types of queries and result."""

    product: ir.Node
    between: tuple[ir.Node, ...]
    context: ir.Node
    shape: tuple[int, ...]
    queries: str
    result: str


def list_faults(graph: Graph, executed: Executed = "f32", tier: TierName | None = None) -> tuple[Fault, ...]:
    """The attentions of a graph that OpenVINO is known to compute wrongly on a CPU.

    An attention that is not listed may still be wrong in a way that nobody has seen: parity is to be measured.

    Args:
        graph: Float, or with Q/DQ pairs. Its shapes are static: OpenVINO fuses no others.
        executed: The type in which it computes where no Q/DQ pairs stand, its ``INFERENCE_PRECISION_HINT``.
        tier: Instructions of the processor; ``None`` for any, where every fault counts.
    """
    found: list[Fault] = []
    for node in graph.model.graph:
        attention = _read_attention(node, executed) if node.op_type == "Softmax" else None
        if attention is not None:
            found += [*_check_bias(attention, tier), *_check_place(attention)]
    return tuple(found)


def _check_bias(attention: _Attention, tier: TierName | None) -> Iterator[Fault]:
    keys = attention.shape[-1]
    if keys == 1 or not _has_matrix_kernel(attention.queries, tier):
        return
    # Constants that are added one after the other become one before they are looked at; a table of factors goes into it
    added = [shape for node in attention.between if node.op_type in _ADDITIONS for shape in _constant_shapes(node)]
    factors = [shape for node in attention.between if node.op_type in _FACTORS for shape in _constant_shapes(node)]
    tables = [shape for shape in factors if shape and shape[-1] == keys and _count(shape) > keys]
    whole = np.broadcast_shapes(*added, *tables)
    if added and whole and whole[-1] == keys == _count(whole):
        size = " × ".join(map(str, attention.shape))
        reason = f"OpenVINO adds a bias of {keys} numbers to {size} scores wrongly in {attention.queries}"
        yield Fault("vector_bias", attention.context.name or "", reason)


def _has_matrix_kernel(queries: str, tier: TierName | None) -> bool:
    """Whether products of a type have the kernel that takes a bias in."""
    if queries == "f32":
        return False
    if queries in ("bf16", "f16"):
        return tier is None or TIERS[tier].bf16
    return tier is None or tier.startswith("amx")


def _check_place(attention: _Attention) -> Iterator[Fault]:
    _, heads, queries, _ = attention.shape
    if heads != queries or heads == 1 or attention.queries != attention.result:
        return
    operands = (*attention.product.inputs, attention.context.inputs[1])
    if any(_is_shared(operand) for operand in operands):
        return
    readers = _readers(attention.context)
    behind = attention.result == "f32" and len(readers) == 1 and _swaps_middle(readers[0])
    if _is_swapped(operands[0]) != behind:
        reason = f"OpenVINO overwrites {heads} queries of {heads} heads while it reads them, in {attention.result}"
        yield Fault("in_place", attention.context.name or "", reason)


def _read_attention(softmax: ir.Node, executed: Executed) -> _Attention | None:
    """What is around a softmax; ``None`` where that is no attention on four axes of static size."""
    between: list[ir.Node] = []
    shape = static_shape(softmax.inputs[0])
    product = producer_of(softmax.inputs[0])
    while product is not None and product.op_type in (*_ADDITIONS, *_FACTORS):
        between.insert(0, product)
        product = producer_of(_find_computed(product))
    context = _find_context(softmax)
    if product is None or product.op_type != "MatMul" or context is None or shape is None or len(shape) != 4:
        return None
    queries = _read_code_type(product.inputs[0]) or executed
    return _Attention(product, tuple(between), context, shape, queries, _result_type(context) or executed)


def _find_context(softmax: ir.Node) -> ir.Node | None:
    """The product of probabilities and values, behind what quantises and scales the probabilities."""
    node: ir.Node | None = softmax
    while node is not None and node.op_type != "MatMul":
        readers = _readers(node)
        fits = len(readers) == 1 and readers[0].op_type in ("MatMul", *_QUANTIZERS, *_FACTORS)
        node = readers[0] if fits else None
    return node


def _result_type(context: ir.Node) -> str | None:
    """The type of the codes that a product's result becomes before it moves; ``None`` where it stays float."""
    readers = _readers(context)
    while len(readers) == 1 and readers[0].op_type in _FACTORS:
        readers = _readers(readers[0])
    return _code_type(readers[0]) if len(readers) == 1 and readers[0].op_type == "QuantizeLinear" else None


def _read_code_type(value: ir.Value | None) -> str | None:
    """The type of the codes that a product reads; ``None`` where it reads floats."""
    node = producer_of(value)
    while node is not None and node.op_type in ("Reshape", "Transpose", "Gather", *_PARTS):
        node = producer_of(node.inputs[0])
    return _code_type(node) if node is not None and node.op_type == "DequantizeLinear" else None


def _code_type(node: ir.Node) -> str:
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    return "UINT8" if zero is None or zero.dtype is None else zero.dtype.name


def _is_swapped(queries: ir.Value | None) -> bool:
    """Whether a transpose between tokens and heads is taken in, also one in front of a single factor."""
    node = producer_of(queries)
    while node is not None and (node.op_type in _QUANTIZERS or _is_scaling(node)):
        node = producer_of(_find_computed(node))
    return node is not None and _swaps_middle(node)


def _is_scaling(node: ir.Node) -> bool:
    return node.op_type in _FACTORS and all(_count(shape) == 1 for shape in _constant_shapes(node))


def _is_shared(operand: ir.Value | None) -> bool:
    """Whether something else reads what an operand is made from: it is then never written over."""
    node = producer_of(operand)
    while node is not None and node.op_type in ("Transpose", "Reshape") and len(_readers(node)) == 1:
        node = producer_of(node.inputs[0])
    return node is not None and (node.op_type in _PARTS or len(_readers(node)) > 1)


def _swaps_middle(node: ir.Node) -> bool:
    order = node.attributes.get("perm") if node.op_type == "Transpose" else None
    return order is not None and list(order.as_ints()) == [0, 2, 1, 3]


def _find_computed(node: ir.Node) -> ir.Value | None:
    """The only input that is no constant."""
    computed = [value for value in node.inputs if value is not None and value.const_value is None]
    return computed[0] if len(computed) == 1 else None


def _readers(node: ir.Node) -> list[ir.Node]:
    return [use.node for output in node.outputs for use in output.uses()]


def _constant_shapes(node: ir.Node) -> list[tuple[int, ...]]:
    values = [value for value in node.inputs if value is not None and value.const_value is not None]
    return [tuple(map(int, value.const_value.shape.numpy())) for value in values if value.const_value is not None]


def _count(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))
