"""Bring movements of whole tokens to one Gather: Swin's cyclic shift, window partition and their way back.

A roll is slices and a concatenation for each axis, a partition a reshape to rank six and a permute; engines run them
one by one. Whatever the chain does, it only moves rows of channels, so it is one Gather of rows between two Reshapes,
which cost nothing. Rows of zeros, where windows overhang the grid, come from one row of zeros behind the last token.

Left alone: chains that move channels too, as attention's heads do, and single operators of up to rank 4.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevit.core.pass_record import PassRecord
from edgevit.graph.builder import Builder
from edgevit.graph.graph import Graph, known_shape, static_shape
from edgevit.graph.movement import NOWHERE, Index, View, trace
from edgevit.graph.passes.remove_moves import ends_moves
from edgevit.graph.passes.visit import visit_nodes
from edgevit.graph.patterns.pieces import MismatchError, token_rows

_TURNS = ("Transpose", "Slice", "Concat", "Pad", "Gather", "Split")


def fuse_token_gather(graph: Graph) -> PassRecord:
    """Rewrite in place; exact."""

    def rewrite(node: ir.Node) -> bool:
        if not ends_moves(node):
            return False
        try:
            view = trace(node.outputs[0], arithmetic=False)
        except ValueError as exc:
            raise MismatchError(node, str(exc)) from exc
        if view.source is None or view.is_flat or not view.moves_alone or not _is_long(view):
            return False
        try:
            rows = token_rows(_by_token(view, node), node)
        except MismatchError:
            if _is_of_heads(view):
                return False
            raise
        _rebuild(graph, node, view, rows)
        return True

    return visit_nodes(graph, "fuse_token_gather", rewrite)


def _is_long(view: View) -> bool:
    """Whether there are several operators, or one that permutes more axes than engines do in one go."""
    turns = [n for n in view.nodes if n.op_type in _TURNS]
    return len(turns) > 1 or any(n.op_type == "Transpose" and len(n.attributes["perm"].as_ints()) > 4 for n in turns)


def _is_of_heads(view: View) -> bool:
    """Whether there are only permutes of up to rank 4, as in front of attention's products: engines take those in."""
    turns = [n for n in view.nodes if n.op_type in _TURNS]
    return all(n.op_type == "Transpose" and len(n.attributes["perm"].as_ints()) <= 4 for n in turns)


def _by_token(view: View, node: ir.Node) -> View:
    """Rows of the source's width: patch merging puts four of them side by side."""
    width = (static_shape(view.source) or (0,))[-1]
    if not width or view.shape[-1] % width:
        raise MismatchError(node, "its rows are not whole tokens of what it reads")
    return view.move(lambda table: table.reshape(-1, width))


def _rebuild(graph: Graph, node: ir.Node, view: View, rows: Index) -> None:
    assert view.source is not None
    shape = known_shape(view.source)
    tokens, width = int(np.prod(shape[:-1])), shape[-1]
    build = Builder(graph, node.name or "", node)
    flat = build.reshape(view.source, (tokens, width), "rows")
    if bool((rows == NOWHERE).any()):
        zeros = build.constant("zeros", np.zeros((1, width), np.float32))
        flat = build.add("Concat", [flat, zeros], "with_zeros", (tokens + 1, width), axis=0)
        rows = np.where(rows == NOWHERE, tokens, rows)
    gathered = build.add("Gather", [flat, build.constant("index", rows)], "gather", (len(rows), width), axis=0)
    build.insert(node, node.outputs[0], build.reshape(gathered, view.shape, "shaped"))
