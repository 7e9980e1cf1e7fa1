"""Linears, norms and attention in a graph, found by where their numbers come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.graph.graph import constant_of, producer_of, static_shape
from edgevit.graph.linears import is_transposed
from edgevit.graph.movement import NOWHERE, Index, View, strip_reshapes, trace

Weights = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class MismatchError(Exception):
    """A part of a graph that is not what a pattern expects.

    Args:
        node: Where; ``None`` for the graph as a whole.
        reason: Why, for people.
    """

    def __init__(self, node: ir.Node | None, reason: str) -> None:
        super().__init__(reason)
        self.site = (node.name or node.op_type) if node is not None else "graph"
        self.reason = reason


@dataclass(frozen=True)
class Product:
    """A MatMul or Gemm by a constant matrix.

    Attributes:
        source: What it multiplies, ``(…, K)``.
        weight: ``(K, M) float32``.
        bias: ``(M,) float64``, a Gemm's own.
    """

    node: ir.Node
    source: ir.Value
    weight: Weights
    bias: Doubles


@dataclass(frozen=True)
class Linear:
    """A product with its bias, in its own order of rows.

    Attributes:
        source: What it reads.
        weight: ``(M, K) float32``, as torch has it.
        bias: ``(M,) float32``; zeros where there is none.
        rows: Which of its rows comes to each row of the value that was asked for.
    """

    node: ir.Node
    source: ir.Value
    weight: Weights
    bias: Weights
    rows: Index


@dataclass(frozen=True)
class Norm:
    """A LayerNormalization over the last axis."""

    node: ir.Node
    source: ir.Value
    weight: Weights
    bias: Weights
    epsilon: float


def name_parameters(name: str, part: Linear | Norm) -> dict[str, Weights]:
    """Weight and bias of a part of the canonical model by their names in its state."""
    return {f"{name}.weight": part.weight, f"{name}.bias": part.bias}


def look(value: ir.Value) -> View:
    """:func:`edgevit.graph.movement.trace`, with a :class:`MismatchError` for what it cannot follow."""
    try:
        return trace(value)
    except ValueError as exc:
        raise MismatchError(value.producer(), str(exc)) from exc


def producer(view: View, *op_types: str) -> ir.Node:
    """The node that computed a view's source.

    Raises:
        MismatchError: It is none of these.
    """
    node = producer_of(view.source)
    if node is None or node.op_type not in op_types or node.domain:
        found = "a constant" if view.source is None else node.op_type if node is not None else "the input"
        after = view.nodes[-1] if view.nodes else node
        raise MismatchError(after, f"it reads {found}, not {' or '.join(op_types)}")
    return node


def find_product(view: View) -> Product:
    """The product by a constant that a view comes from."""
    node = producer(view, "MatMul", "Gemm")
    source, weight = node.inputs[0], constant_of(node.inputs[1])
    if source is None or weight is None or weight.ndim != 2:
        raise MismatchError(node, "its second operand is not a constant matrix")
    bias = np.zeros(weight.shape[1])
    if node.op_type == "Gemm":
        alpha, beta = (node.attributes.get_float(name, 1.0) for name in ("alpha", "beta"))
        if node.attributes.get_int("transA", 0):
            raise MismatchError(node, "its first operand is transposed")
        weight = weight.T if is_transposed(node) else weight
        weight = weight * np.float32(alpha) if alpha != 1.0 else weight
        bias = np.zeros(weight.shape[1])
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            constant = constant_of(node.inputs[2])
            if constant is None or constant.size not in (1, weight.shape[1]):
                raise MismatchError(node, "its bias is not a constant vector")
            bias = bias + beta * constant.reshape(-1).astype(np.float64)
    return Product(node, source, weight, bias)


def find_linear(value: ir.Value | View) -> Linear:
    """The Linear whose result is a value of ``(…, M)``, every channel in its place.

    Scales and shifts behind the product, of one number or a number a channel, go into its weight and bias.
    """
    view = value if isinstance(value, View) else look(value)
    product = find_product(view)
    width = product.weight.shape[1]
    if not view.shape or view.shape[-1] != width:
        raise MismatchError(product.node, "its channels are not the last axis of what reads it")
    rows, columns = _separate(view.index.reshape(-1, width), width, product.node)
    if not bool((columns == np.arange(width)).all()):
        raise MismatchError(product.node, "its channels change places")
    scale = _per_column(view.scale, view, product.node)
    offset = _per_column(view.offset, view, product.node)
    weight, bias = product.weight.T, product.bias
    if bool((scale != 1.0).any()):
        weight = (weight * scale[:, None]).astype(np.float32)
    bias = bias * scale + offset
    weight = np.ascontiguousarray(weight, dtype=np.float32)
    return Linear(product.node, product.source, weight, bias.astype(np.float32), rows)


def find_norm(view: View) -> Norm:
    """The LayerNorm over the last axis that a view comes from."""
    node = producer(view, "LayerNormalization")
    source = node.inputs[0]
    shape = static_shape(source)
    axis = node.attributes.get_int("axis", -1)
    if source is None or shape is None or axis not in (-1, len(shape) - 1):
        raise MismatchError(node, "it does not normalise only over the last axis")
    weight = constant_of(node.inputs[1])
    bias = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    if weight is None or weight.shape != shape[-1:]:
        raise MismatchError(node, "its weight is not a constant vector")
    if node.inputs[2:] and node.inputs[2] is not None and (bias is None or bias.shape != weight.shape):
        raise MismatchError(node, "its bias is not a constant vector")
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    # The attribute is float32; the number that was meant has few digits.
    return Norm(node, source, weight, np.zeros_like(weight) if bias is None else bias, float(f"{epsilon:.6g}"))


def flat_source(value: ir.Value) -> ir.Value:
    """The value that this is, but for its shape, as far back as numbers keep their order."""
    view = look(value)
    if view.source is not None and view.moves_alone and view.is_flat:
        return view.source
    return strip_reshapes(value)


def token_rows(view: View, node: ir.Node) -> Index:
    """Which rows of the source, ``(…, C)``, come to the rows of the view; ``NOWHERE`` for rows of zeros."""
    shape = static_shape(view.source)
    if shape is None or view.shape[-1] != shape[-1] or not view.moves_alone:
        raise MismatchError(node, "its rows are not whole tokens of what it reads")
    rows, columns = _separate(view.index.reshape(-1, shape[-1]), shape[-1], node)
    if not bool((columns == np.arange(shape[-1])).all()):
        raise MismatchError(node, "channels of a token change places")
    return rows


def _separate(index: Index, width: int, node: ir.Node) -> tuple[Index, Index]:
    """``index[i, j] = rows[i] · width + columns[j]``, or rows of ``NOWHERE``."""
    empty = (index == NOWHERE).all(axis=1)
    rows, columns = np.divmod(index, width)
    real = rows[~empty]
    if not len(real) or bool((index[~empty] == NOWHERE).any()):
        raise MismatchError(node, "a row of it is partly constant")
    if not bool((real == real[:, :1]).all() and (columns[~empty] == columns[~empty][:1]).all()):
        raise MismatchError(node, "tokens and channels are mixed behind it")
    return np.where(empty, NOWHERE, rows[:, 0]), columns[~empty][0]


def _per_column(numbers: float | Doubles | None, view: View, node: ir.Node) -> Doubles:
    """A number for every channel."""
    width = view.shape[-1]
    if numbers is None or isinstance(numbers, float):
        return np.full(width, numbers or 0.0)
    table = numbers.reshape(-1, width)
    if not bool((table == table[:1]).all()):
        raise MismatchError(node, "what is added to it or multiplied by differs from token to token")
    row: Doubles = table[0]
    return row
