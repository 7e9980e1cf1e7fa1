"""The walk that most rewrites are: node by node, with a record of what was changed, and of what was not and why."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.graph.graph import Graph
from edgevit.graph.patterns.pieces import MismatchError


def visit_nodes(graph: Graph, name: str, rewrite: Callable[[ir.Node], bool]) -> PassRecord:
    """Show every node to a rewrite, then remove what nothing reads any more.

    Args:
        graph: Changed in place.
        name: The pass's.
        rewrite: Says whether it changed the graph for a node. One that it looked at and left alone it refuses with a
            :class:`~edgevit.graph.patterns.pieces.MismatchError`, whose reason is kept.
    """
    import onnx_ir.passes.common as common

    applied: list[str] = []
    skipped: list[Skip] = []
    for node in list(graph.model.graph):
        site = node.name or node.op_type
        try:
            if rewrite(node):
                applied.append(site)
        except MismatchError as exc:
            skipped.append(Skip(site, exc.reason))
    common.RemoveUnusedNodesPass()(graph.model)
    return PassRecord(name, "graph", tuple(applied), tuple(skipped))
