"""A file's graph, in the opset and with the static shapes that patterns are written for."""

from __future__ import annotations

from typing import Any

from edgevit.checkpoints.onnx_file.attention_op import ATTENTION, lower_attention
from edgevit.checkpoints.onnx_file.file import ForeignFile
from edgevit.core.errors import CheckpointError, format_offenders, last_line
from edgevit.core.pass_record import PassRecord
from edgevit.graph.graph import Graph
from edgevit.graph.passes.fold_static_shapes import fold_static_shapes
from edgevit.graph.set_batch import set_batch

OPSET = 20
"""What TensorRT from 10.0 on parses, and the canonical export's."""


def load_graph(file: ForeignFile, batch: int) -> tuple[Graph, tuple[PassRecord, ...]]:
    """Read a file with a number of images a call, with only the outputs that are kept.

    Raises:
        CheckpointError: It cannot be brought to opset 20, or is not valid.
        MismatchError: It is fixed to another number of images, and mixes them.
    """
    import onnx_ir as ir
    import onnx_ir.passes.common as common

    graph = Graph.load(file.path)
    model = graph.model
    common.InlinePass()(model)
    outputs = [v for v in model.graph.outputs if v.name in file.outputs]
    model.graph.outputs.clear()
    model.graph.outputs.extend(outputs)
    image = next(v for v in model.graph.inputs if v.name == file.input)
    # Weights that are listed among the inputs, as exporters did before ONNX's version 4, are constants here.
    model.graph.inputs.clear()
    model.graph.inputs.append(image)
    image.shape = ir.Shape([file.batch or batch, 3, *file.image_size])
    graph.forget_shapes()
    common.RemoveUnusedNodesPass()(model)
    common.NameFixPass()(model)
    for number, node in enumerate(model.graph):
        node.name = node.name or f"{node.op_type.lower()}_{number}"
    size = f"{file.input}: {batch} × 3 × {file.image_size[0]} × {file.image_size[1]}"
    applied = (
        () if file.batch == batch else (f"{size}, exported for {'any number' if file.batch is None else file.batch}",)
    )
    records = [PassRecord("fold_batch", "graph", applied)]
    records.append(convert_opset(graph, file))
    if file.batch is not None and file.batch != batch:
        fold_static_shapes(graph)
        set_batch(graph, file.batch, batch)
    if file.flat:
        _restore_axes(graph, batch)
    return graph, tuple(records)


def refuse_branches(graph: Graph, file: ForeignFile) -> None:
    """Raise CheckpointError where an image decides which nodes are run."""
    left = [node.name or node.op_type for node in graph.model.graph if node.op_type == "If"]
    if left:
        raise CheckpointError(
            f"{file.path} has control flow ({', '.join(left)}): a classifier's graph is the same for every image",
            "export the model again in evaluation mode, traced, with a fixed image size",
        )


def convert_opset(graph: Graph, file: ForeignFile) -> PassRecord:
    """Bring a graph to opset 20 in place."""
    if file.opset == OPSET:
        return PassRecord("convert_opset", "graph")
    applied = [f"{file.opset} to {OPSET}"]
    if file.opset > OPSET:
        count = _relabel(graph, file)
        applied += [f"{count} {ATTENTION} taken apart"] if count else []
    else:
        _upgrade(graph, file)
    return PassRecord("convert_opset", "graph", tuple(applied))


def _upgrade(graph: Graph, file: ForeignFile) -> None:
    """By onnx's own converter, with only small tensors: it copies what it is given."""
    import onnx
    import onnx_ir as ir

    big = {
        name: value
        for name, value in graph.model.graph.initializers.items()
        if value.const_value is not None and value.const_value.size > 1024
    }
    inputs = list(graph.model.graph.inputs)
    for name, value in big.items():
        stand_in = ir.Value(name=name, shape=value.shape, type=value.type)
        value.replace_all_uses_with(stand_in)
        del graph.model.graph.initializers[name]
        graph.model.graph.inputs.append(stand_in)
    for value in graph.model.graph.initializers.values():
        tensor = value.const_value  # onnx looks for the files of external ones in the working folder
        if isinstance(tensor, ir.ExternalTensor):
            value.const_value = ir.tensor(tensor.numpy(), name=value.name)
    proto = ir.serde.serialize_model(graph.model)
    try:
        made = ir.serde.deserialize_model(onnx.version_converter.convert_version(proto, OPSET))
    except (RuntimeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as exc:
        raise CheckpointError(
            f"{file.path} cannot be converted from opset {file.opset} to {OPSET}: {last_line(exc)}",
            "export the model again with opset_version=20",
        ) from exc
    for value in list(made.graph.inputs)[len(inputs) :]:
        made.graph.inputs.remove(value)
        constant = big[value.name or ""]
        twin = ir.Value(name=value.name, shape=constant.shape, type=constant.type, const_value=constant.const_value)
        value.replace_all_uses_with(twin)
        made.graph.register_initializer(twin)
    graph.model = made
    graph.forget_shapes()


def _restore_axes(graph: Graph, batch: int) -> None:
    """``(batch, …)`` in place of an output that lacks one of two axes."""
    import onnx_ir as ir

    flat = graph.model.graph.outputs[0]
    name, flat.name = flat.name, f"{flat.name}/flat"
    shape = ir.Value(name=f"{name}/shape", const_value=ir.tensor([batch, -1], dtype=ir.DataType.INT64))
    graph.model.graph.register_initializer(shape)
    node = ir.node("Reshape", [flat, shape], name=f"{name}/axes")
    node.outputs[0].name, node.outputs[0].type = name, flat.type
    graph.model.graph.append(node)
    graph.model.graph.outputs[0] = node.outputs[0]


def _relabel(graph: Graph, file: ForeignFile) -> int:
    """Later opsets mostly add types: an operator that opset 20 has with these inputs and attributes means the same.

    Returns:
        How many Attention operators were taken apart.
    """
    import onnx

    count, left = 0, dict[Any, str]()
    if any(node.op_type == ATTENTION for node in graph.model.graph):
        fold_static_shapes(graph)  # by the file's own opset: how wide a head is says the scale
        count, left = lower_attention(graph)
    problems = []
    for node in graph.model.graph:
        if node.domain:
            continue
        if node in left:
            problems.append(f"{node.op_type} ({node.name}): {left[node]}")
            continue
        try:
            schema = onnx.defs.get_schema(node.op_type, OPSET, "")
        except onnx.defs.SchemaError:
            problems.append(f"{node.op_type} ({node.name})")
            continue
        unknown = sorted(set(node.attributes) - set(schema.attributes))
        if unknown or not schema.min_input <= len(node.inputs) <= schema.max_input:
            problems.append(f"{node.op_type} ({node.name}){' with ' + ', '.join(unknown) if unknown else ''}")
    if problems:
        raise CheckpointError(
            f"{file.path} has operators of opset {file.opset} that opset {OPSET} lacks:\n" + format_offenders(problems),
            f"export the model again with opset_version={OPSET}",
        )
    graph.model.opset_imports[""] = OPSET
    return count
