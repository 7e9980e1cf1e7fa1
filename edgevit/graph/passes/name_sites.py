"""Name nodes by the module that they come from.

``blocks.3.attn.qkv`` is the MatMul of that Linear, ``blocks.3.attn.qkv/bias`` its Add; a block's two activation
products are ``blocks.3.attn/scores`` and, behind softmax, ``blocks.3.attn/context``. Names are a function of the
canonical model only, so a recipe that pins a site keeps its meaning whatever torch's exporter calls its nodes. What is
carried around an encoder keeps the beginning of its names, behind which its publisher's modules are named; products of
its attentions are products like others.
"""

from __future__ import annotations

import ast
from collections import Counter

import onnx_ir as ir

from edgevit.core.pass_record import PassRecord
from edgevit.graph.carried import CARRIED
from edgevit.graph.graph import SITE_OPS, Graph, constant_of, is_made_by, operand
from edgevit.graph.linears import trace_layout

SCOPES = "pkg.torch.onnx.name_scopes"
WRAPPER = "model"  # PixelModel's attribute


def name_sites(graph: Graph) -> PassRecord:
    """Rename nodes, the values between them and constants in place. Nodes without a module path keep their names."""
    taken: Counter[str] = Counter()
    applied = []
    for node in graph.model.graph:
        path = module_path(node)
        if path is None:
            continue
        carried = (node.name or "").startswith(CARRIED)
        name = f"{CARRIED}{_node_name(node, path, carried)}" if carried else _node_name(node, path)
        taken[name] += 1
        node.name = name if taken[name] == 1 else f"{name}.{taken[name]}"
        for value in node.outputs:
            if not value.is_graph_output():
                value.name = node.name if len(node.outputs) == 1 else f"{node.name}:{value.index()}"
        if node.op_type in SITE_OPS:
            applied.append(node.name)
    _name_constants(graph)
    return PassRecord("name_sites", "graph", tuple(applied))


def module_path(node: ir.Node) -> str | None:
    """The canonical module's path, ``""`` for the model itself; ``None`` where the exporter left no trace."""
    scopes = node.metadata_props.get(SCOPES)
    if not scopes:
        return None
    modules = ast.literal_eval(scopes)[:-1]  # the last entry is the operator
    path: str = modules[-1] if modules else ""
    return "" if path == WRAPPER else path.removeprefix(f"{WRAPPER}.")


def _node_name(node: ir.Node, path: str, carried: bool = False) -> str:
    weighted = any(constant_of(v) is not None for v in node.inputs[1:2])
    if node.op_type in SITE_OPS and weighted:
        return path
    if node.op_type == "MatMul" and not carried:
        return f"{path}/{'context' if is_made_by(trace_layout(operand(node)), 'Softmax') else 'scores'}"
    if path and node.op_type == "Add" and weighted and any(is_made_by(v, "MatMul", "Conv") for v in node.inputs):
        return f"{path}/bias"
    if node.op_type == "LayerNormalization":
        return path
    return f"{path}/{node.op_type.lower()}" if path else node.op_type.lower()


def _name_constants(graph: Graph) -> None:
    """Parameters by their path in the model; what was computed from them by the first node that reads it."""
    taken: set[str] = set()
    for node in graph.model.graph:
        for place, value in enumerate(node.inputs):
            if value is None or not value.is_initializer() or value.name in taken:
                continue
            name = value.name or ""
            if name.startswith(f"{WRAPPER}."):
                name = name.removeprefix(f"{WRAPPER}.")
            else:
                weight = node.op_type in SITE_OPS and place == 1
                name = f"{node.name}.{'weight' if weight else f'input{place}'}"
            if name not in graph.model.graph.initializers:
                value.name = name
            taken.add(value.name or "")
