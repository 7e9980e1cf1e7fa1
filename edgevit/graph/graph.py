"""Graph: an ONNX model with stable site names.

A site is a node that carries weights or is a product of two activations; its name is the module's path in the canonical
model (``blocks.3.attn.qkv``), whatever the exporter called it, so that a report and a recipe can speak of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

# protobuf refuses more than 2 GiB in one message; weights of larger models lie in a file beside it.
INLINE_LIMIT_BYTES = 1_900_000_000
BATCH_AXIS = "batch"
"""What an open number of images is called in shapes."""
SITE_OPS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_ALIGNMENT = 65536  # of large tensors in a file beside: what any system can map


@dataclass(frozen=True)
class Site:
    """A place where an engine may use another precision.

    Attributes:
        name: The module's path, for example ``blocks.3.mlp.fc2``.
        op_type: ``Conv``, ``ConvTranspose``, ``MatMul`` or ``Gemm``.
        weight_shape: Shape of the constant operand; ``None`` for a product of two activations.
        macs: Multiplications of one run, of which a dimension that may vary counts as 1; 0 where a shape is not known.
    """

    name: str
    op_type: str
    weight_shape: tuple[int, ...] | None
    macs: int


class Graph:
    """A thin wrapper of ``onnx_ir.Model``. Mutable: stages copy it before they change it."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model

    @classmethod
    def load(cls, path: Path) -> Graph:
        """Read an ONNX file; weights in a file beside it stay on disk until they are used."""
        import onnx_ir as ir

        graph = cls(ir.load(path))
        # A tensor of the message is copied out of it whenever it is read; one copy shall be all.
        graph._hold_weights(ir.TensorProtoTensor)
        return graph

    def save(self, path: Path, *, beside: bool = False) -> None:
        """Write one ONNX file, complete in itself, or the weights into ``<stem>.data`` beside it.

        Args:
            path: Of the ONNX file.
            beside: Weights go into the second file, from which :meth:`load` maps them; those above 2 GiB always do.
        """
        import onnx_ir as ir

        if beside or self.weight_bytes() > INLINE_LIMIT_BYTES:
            ir.save(self.model, path, external_data=f"{path.stem}.data", alignment=_ALIGNMENT)
            return
        whole = self.copy()
        whole._hold_weights(ir.ExternalTensor)  # would be written as a reference to its file
        ir.save(whole.model, path)

    def _hold_weights(self, kind: type) -> None:
        """Take the numbers of tensors of one kind, which lie elsewhere, into memory."""
        import onnx_ir as ir

        for value in self.model.graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and isinstance(tensor, kind):
                value.const_value = ir.tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)

    def copy(self) -> Graph:
        """A copy with new nodes and values; weights are shared."""
        return Graph(self.model.clone())

    def forget_shapes(self) -> None:
        """Drop the shapes of what is computed, for they are to change."""
        for node in self.model.graph:
            for value in node.outputs:
                value.shape = None

    def weight_bytes(self) -> int:
        """Bytes of all initializers."""
        tensors = (value.const_value for value in self.model.graph.initializers.values())
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    def op_counts(self) -> Mapping[str, int]:
        """How often each op type occurs."""
        return dict(sorted(Counter(node.op_type for node in self.model.graph).items()))

    def sites(self) -> tuple[Site, ...]:
        """Sites in the order of execution."""
        return tuple(describe_site(node) for node in self.model.graph if node.op_type in SITE_OPS)

    def add_constant(self, name: str, numbers: NDArray[Any]) -> ir.Value:
        """A new initializer of these numbers, their type and their shape."""
        import onnx_ir as ir

        tensor = ir.tensor(np.asarray(numbers, order="C"), name=name)
        kind = ir.TensorType(tensor.dtype)
        value = ir.Value(name=name, shape=ir.Shape(numbers.shape), type=kind, const_value=tensor)
        self.model.graph.register_initializer(value)
        return value

    def share_constant(self, name: str, numbers: NDArray[Any]) -> ir.Value:
        """The initializer of this name, which is made of these numbers where there is none yet."""
        known = self.model.graph.initializers.get(name)
        return self.add_constant(name, numbers) if known is None else known


def constant_of(value: ir.Value | None) -> NDArray[Any] | None:
    """A constant's numbers, or ``None`` if it is computed."""
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy()


def operand(node: ir.Node, place: int = 0) -> ir.Value:
    """An input that the operator cannot do without."""
    value = node.inputs[place]
    assert value is not None, f"{node.name} has no input {place}"
    return value


def producer_of(value: ir.Value | None) -> ir.Node | None:
    """The node that computes a value; ``None`` for an input of the graph, a constant, or where there is no value."""
    return value.producer() if value is not None else None


def is_made_by(value: ir.Value | None, *op_types: str) -> bool:
    """Whether a node of one of these operators computes a value."""
    node = producer_of(value)
    return node is not None and node.op_type in op_types


def reduced_axes(node: ir.Node) -> tuple[int, ...]:
    """What a Reduce operator reduces, by an attribute or, since opset 18, a constant input; nothing stands for all."""
    numbers = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = node.attributes.get_ints("axes") or (() if numbers is None else numbers.reshape(-1))
    return tuple(int(axis) for axis in axes)


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The value's shape where every dimension is known."""
    if value is None or value.shape is None:
        return None
    dims = tuple(value.shape)
    known = tuple(d for d in dims if isinstance(d, int))
    return known if len(known) == len(dims) else None


def known_shape(value: ir.Value | None) -> tuple[int, ...]:
    """The shape of a value that is known to be static."""
    shape = static_shape(value)
    assert shape is not None, "its shape is not static"
    return shape


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Give ``new`` to all that read ``old``, and where the graph gives it, under its name."""
    at_end = old.is_graph_output()
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if at_end:
        old.name, new.name = new.name, old.name


def describe_site(node: ir.Node) -> Site:
    """What a node is as a site; its operator is one of :data:`SITE_OPS`."""
    weight = operand(node, 1)
    shape = tuple(int(d) for d in weight.const_value.shape.numpy()) if weight.const_value is not None else None
    right = shape or _size(weight)
    if node.op_type == "Conv":
        macs = math.prod(_size(node.outputs[0])) * math.prod(right[1:])
    elif node.op_type == "ConvTranspose":
        macs = math.prod(_size(operand(node))) * math.prod(right[1:])
    elif shape is None and operand(node).const_value is not None:  # the constant is for all that the right one holds
        macs = math.prod(_size(node.outputs[0])) * _size(operand(node))[-1]
    else:
        macs = math.prod(_size(operand(node))) * right[0 if node.attributes.get_int("transB", 0) else -1]
    return Site(node.name or "", node.op_type, shape, macs)


def _size(value: ir.Value) -> list[int]:
    return [0] if value.shape is None else [d if isinstance(d, int) else 1 for d in value.shape]
