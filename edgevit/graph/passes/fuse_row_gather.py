"""Let heads change places by a Gather of rows, where the numbers are bytes.

A transpose of ``(X, a, b, d)`` to ``(X, b, a, d)`` moves rows of ``d`` numbers, so it is a Gather of the ``a·b`` rows
of each ``X`` between two Reshapes that cost nothing. OpenVINO's transpose moves single bytes, its Gather whole rows:
for a Swin-T's first attention 0.25 against 0.08 ms.

Cases, all of a quantised tensor or of the uint8 image:
1. Keys: what follows is the transpose of the last two axes, which the product of queries and keys takes in.
2. Reshapes follow: the context on its way to the output projection, and the patches of an image.
3. Reshapes and a Gather of tokens follow: the context of shifted windows. One Gather does both.

Scope: a transpose that a product reads directly stays, as OpenVINO's attention takes in those of queries and values.
So does one of floats, which it moves as fast as rows, or takes in as well.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.core.pass_record import PassRecord
from edgevit.graph.builder import Builder
from edgevit.graph.graph import Graph, constant_of
from edgevit.graph.passes.visit import visit_nodes
from edgevit.graph.patterns.pieces import MismatchError

Index = npt.NDArray[np.int64]


def fuse_row_gather(graph: Graph) -> PassRecord:
    """Rewrite a graph with Q/DQ pairs in place; exact."""

    def rewrite(node: ir.Node) -> bool:
        source = node.inputs[0] if node.op_type == "Transpose" else None
        swaps = list(node.attributes.get_ints("perm", ())) == [0, 2, 1, 3]
        if source is None or not swaps or not _moves_bytes(source):
            return False
        reader, sizes = _only_reader(node), _row_sizes(source)
        if reader is None:
            raise MismatchError(node, "its result has several readers")
        if reader.op_type == "MatMul":
            raise MismatchError(node, "the product that reads it takes it in")
        if sizes is None:
            raise MismatchError(node, "number or length of its rows is unknown")
        _replace(graph, node, source, sizes)
        return True

    return visit_nodes(graph, "fuse_row_gather", rewrite)


def _moves_bytes(value: ir.Value) -> bool:
    """Whether OpenVINO moves the tensor as bytes: it is the image, or a DequantizeLinear will come behind the move."""
    producer = value.producer()
    # ViTPose's patches begin in front of the image, which is cut and padded for it.
    while producer is not None and producer.op_type in ("Reshape", "Pad", "Slice") and producer.inputs[0] is not None:
        value, producer = producer.inputs[0], producer.inputs[0].producer()
    return value.dtype == ir.DataType.UINT8 if producer is None else producer.op_type == "DequantizeLinear"


def _only_reader(node: ir.Node) -> ir.Node | None:
    result = node.outputs[0]
    readers = [use.node for use in result.uses()]
    return readers[0] if len(readers) == 1 and not result.is_graph_output() else None


def _row_sizes(value: ir.Value) -> tuple[int, int, int] | None:
    """``(a, b, d)`` of a value of shape ``(X, a, b, d)``; the batch in X may be symbolic."""
    dims = [d for d in list(value.shape or ())[1:] if isinstance(d, int)]
    return (dims[0], dims[1], dims[2]) if len(dims) == 3 else None


def _replace(graph: Graph, node: ir.Node, source: ir.Value, sizes: tuple[int, int, int]) -> None:
    a, b, d = sizes
    index: Index = np.arange(a * b).reshape(a, b).T  # (b, a): the row that comes to each place
    rows, target, last = a * b, [b, a, d], node
    found = _find_token_gather(node, sizes)
    if found is not None:
        last, tokens, order = found
        window, place = np.divmod(order, b)
        index = (window * a * b)[:, None] + index[place]
        rows, target = tokens * a, [len(order), a * d]
    build, old = Builder(graph, node.name or "", node), last.outputs[0]
    value = build.add("Reshape", [source, build.constant("rows", np.asarray([-1, rows, d]))], "rows", None)
    value = build.add("Gather", [value, build.constant("gather", index.reshape(-1))], "gather", None, axis=1)
    value = build.add("Reshape", [value, build.constant("placed", np.asarray([-1, *target]))], "placed", old.shape)
    build.insert(node, old, value)


def _find_token_gather(node: ir.Node, sizes: tuple[int, int, int]) -> tuple[ir.Node, int, Index] | None:
    """The Gather of case 3, how many tokens it reads, and its index."""
    reader = _only_reader(node)
    while reader is not None and reader.op_type == "Reshape":
        reader = _only_reader(reader)
    if reader is None or reader.op_type != "Gather" or reader.outputs[0].is_graph_output():
        return None
    constant, data = constant_of(reader.inputs[1]), reader.inputs[0]
    if constant is None or constant.ndim != 1 or reader.attributes.get_int("axis") != 1:
        return None
    index = constant.astype(np.int64)
    if bool((index < 0).any()):
        return None
    a, b, d = sizes
    dims = list(data.shape or ()) if data is not None else []
    if len(dims) != 3 or not isinstance(dims[1], int) or dims[1] % b or dims[2] != a * d:
        return None
    return reader, dims[1], index
