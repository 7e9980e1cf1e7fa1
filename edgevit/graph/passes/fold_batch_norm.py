"""Put a BatchNormalization into the convolution in front of it, whose kernel and bias can then be quantised with it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevit.core.pass_record import PassRecord, Skip
from edgevit.graph.convolutions import CONVOLUTIONS, output_axis
from edgevit.graph.graph import Graph, constant_of, operand


def fold_batch_norm(graph: Graph) -> PassRecord:
    """Rewrite in place; exact to rounding."""
    applied: list[str] = []
    skipped: list[Skip] = []
    for node in list(graph.model.graph):
        if node.op_type != "BatchNormalization":
            continue
        reason = _fold(graph, node)
        if reason:
            skipped.append(Skip(node.name or node.op_type, reason))
        else:
            applied.append(node.name or node.op_type)
    return PassRecord("fold_batch_norm", "graph", tuple(applied), tuple(skipped))


def _fold(graph: Graph, norm: ir.Node) -> str:
    """Fold one; gives why it cannot be, or nothing."""
    source = operand(norm)
    conv = source.producer()
    if conv is None or conv.op_type not in CONVOLUTIONS:
        return "no convolution is in front of it"
    if len(source.uses()) != 1 or source.is_graph_output():
        return "something else reads the convolution"
    if norm.attributes.get_int("training_mode", 0) or len(norm.outputs) > 1:
        return "it is in training"
    if conv.op_type == "ConvTranspose" and conv.attributes.get_int("group", 1) != 1:
        return "its channels are in groups"
    constants = [constant_of(value) for value in norm.inputs[1:5]]
    kernel = constant_of(conv.inputs[1])
    has_bias = len(conv.inputs) > 2 and conv.inputs[2] is not None
    bias = constant_of(conv.inputs[2]) if has_bias else None
    if kernel is None or (has_bias and bias is None) or any(numbers is None for numbers in constants):
        return "its numbers or the kernel's are computed"
    gain, offset, mean, variance = (np.asarray(numbers, np.float64) for numbers in constants)
    factor = gain / np.sqrt(variance + norm.attributes.get_float("epsilon", 1e-5))
    shape = [1] * kernel.ndim
    shape[output_axis(conv)] = len(factor)
    name = conv.name or conv.op_type
    before = np.zeros(len(factor)) if bias is None else bias.astype(np.float64)
    weights = (kernel * factor.reshape(shape)).astype(np.float32)
    biases = ((before - mean) * factor + offset).astype(np.float32)
    conv.replace_input_with(1, graph.add_constant(f"{name}.weight.normed", weights))
    conv.resize_inputs(3)
    conv.replace_input_with(2, graph.add_constant(f"{name}.bias.normed", biases))
    result = norm.outputs[0]
    output = result.is_graph_output()
    result.replace_all_uses_with(source)
    if output:
        outputs = graph.model.graph.outputs
        outputs[list(outputs).index(result)] = source
        source.name = result.name
    graph.model.graph.remove(norm, safe=True)
    return ""
