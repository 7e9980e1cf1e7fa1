"""Give every value its static shape, and compute what depends only on shapes and constants.

TorchScript's exporter computes every Reshape's target, every mask and every square root of a head's width in the graph.
Once the batch is a number, all of it is constant. onnx's own shape functions work node by node here, each with the
constants that were computed so far: one walk settles what whole-graph inference needs a round for each level for. Where
an If turns out to ask for what is constant, as torch.tile does for its input's rank, its branch takes its place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgevit.core.errors import last_line
from edgevit.core.pass_record import PassRecord, Skip
from edgevit.graph.graph import Graph, constant_of, static_shape

# What shape functions read: targets, axes, pads. Weights are never among them.
_SMALL = 4096
_FEW = 16
"""Of floats: the scales of a Resize."""
RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
_SLOW = {"Resize"}
"""What onnx's reference implementation computes number by number: seconds for DINOv2's positions."""
LIMIT_BYTES = 1 << 31


def fold_static_shapes(graph: Graph) -> PassRecord:
    """Rewrite in place; exact, since the same operators compute the same numbers once instead of at every run."""
    import onnx_ir.passes.common as common

    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph.model)
    before = len(graph.model.graph)
    skipped: list[Skip] = []
    left = list(graph.model.graph)[::-1]
    while left:
        found = left.pop()
        if (branch := _take_branch(graph, found)) is not None:
            left += branch[::-1]
            continue
        node = _settle_cast(graph, found)
        made = _evaluate(graph, node)
        if isinstance(made, str):
            skipped.append(Skip(node.name or node.op_type, made))
        elif made is not None:
            for value, numbers in zip(node.outputs, made, strict=True):
                _replace(graph, value, numbers)
            continue
        reason = _infer(graph, node)
        if reason:
            skipped.append(Skip(node.name or node.op_type, reason))
    common.RemoveUnusedNodesPass()(graph.model)
    after = len(graph.model.graph)
    return PassRecord(
        "fold_static_shapes", "graph", (f"{before - after} nodes",) if after < before else (), tuple(skipped)
    )


def infer_shapes(graph: Graph) -> None:
    """Give every value its type and static shape, where they follow from what is in front; nothing is computed."""
    for node in graph.model.graph:
        if any(static_shape(value) is None for value in node.outputs):
            _infer(graph, node)


def _take_branch(graph: Graph, node: Any) -> list[Any] | None:
    """The nodes of an If's branch, in its place; ``None`` where no constant says which."""
    asked = constant_of(node.inputs[0]) if node.op_type == "If" and not node.domain else None
    if asked is None or any(value.is_graph_output() for value in node.outputs):
        return None
    branch = node.attributes["then_branch" if bool(asked.reshape(-1)[0]) else "else_branch"].as_graph()
    for value in list(branch.initializers.values()):
        branch.initializers.pop(value.name)
        value.name = f"{node.name}/{value.name}"
        graph.model.graph.register_initializer(value)
    nodes, results = list(branch), list(branch.outputs)
    branch.outputs.clear()
    branch.remove(nodes)
    graph.model.graph.insert_before(node, nodes)
    for old, new in zip(node.outputs, results, strict=True):
        old.replace_all_uses_with(new)
    graph.model.graph.remove(node, safe=True)
    return nodes


def _settle_cast(graph: Graph, node: Any) -> Any:
    """CastLike as Cast: it reads another value only for its type, which would keep a constant from being one."""
    import onnx_ir as ir

    kind = node.inputs[1].dtype if node.op_type == "CastLike" and node.inputs[1] is not None else None
    if kind is None or node.outputs[0].is_graph_output():
        return node
    made = ir.node("Cast", [node.inputs[0]], {"to": kind.value}, name=node.name)
    made.metadata_props.update(node.metadata_props)
    made.outputs[0].name = f"{node.outputs[0].name}/cast"
    graph.model.graph.insert_before(node, made)
    node.outputs[0].replace_all_uses_with(made.outputs[0])
    graph.model.graph.remove(node, safe=True)
    return made


def _evaluate(graph: Graph, node: Any) -> list[npt.NDArray[Any]] | str | None:
    """The node's results where they are constant, or why they cannot be computed ahead."""
    if node.op_type == "Shape":
        shape = static_shape(node.inputs[0])
        if shape is None:
            return None
        start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end")
        return [np.asarray(shape[start:end], np.int64)]
    if node.op_type in RANDOM or any(v.is_graph_output() for v in node.outputs):
        return None
    numbers = [constant_of(v) for v in node.inputs]
    if any(n is None and v is not None for n, v in zip(numbers, node.inputs, strict=True)):
        return None
    size = sum(n.nbytes for n in numbers if n is not None)
    if size > LIMIT_BYTES:
        return None
    try:
        return _run(graph, node, numbers)
    except Exception as exc:  # the implementations raise whatever an unsupported attribute leads to
        return f"it is constant and cannot be computed ahead: {last_line(exc)}"


def _run(graph: Graph, node: Any, numbers: list[Any]) -> list[npt.NDArray[Any]]:
    """By onnx's reference implementation: ONNX Runtime would need a session, some milliseconds, for every node."""
    from onnx.reference import ReferenceEvaluator

    proto = _serialize(node)
    feeds = {f"in{place}": np.asarray(n, order="C") for place, n in enumerate(numbers) if n is not None}
    opsets = {domain: version for domain, version in graph.model.opset_imports.items() if version is not None}
    if node.op_type in _SLOW:
        return _run_session(graph, proto, feeds)
    runner = ReferenceEvaluator(proto, opsets=opsets)
    return [np.asarray(made) for made in runner.run(None, feeds)]


def _serialize(node: Any) -> Any:
    """The node as onnx has it, with inputs ``in0`` and so on, and outputs ``out0``."""
    import onnx_ir as ir

    proto = ir.serde.serialize_node(node)
    for place, value in enumerate(node.inputs):
        proto.input[place] = f"in{place}" if value is not None else ""
    for place in range(len(proto.output)):
        proto.output[place] = f"out{place}"
    return proto


def _run_session(graph: Graph, proto: Any, feeds: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """One node by ONNX Runtime."""
    import onnx
    import onnxruntime

    def describe(name: str, array: npt.NDArray[Any] | None) -> Any:
        if array is None:
            return onnx.helper.make_empty_tensor_value_info(name)
        return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    inputs = [describe(name, array) for name, array in feeds.items()]
    outputs = [describe(name, None) for name in proto.output]
    opsets = [onnx.helper.make_opsetid(d, v) for d, v in graph.model.opset_imports.items() if v is not None]
    inner = onnx.helper.make_graph([proto], "node", inputs, outputs)
    model = onnx.helper.make_model(inner, opset_imports=opsets, ir_version=graph.model.ir_version)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # of a node that computes a shape
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(made) for made in session.run(None, feeds)]


def _replace(graph: Graph, value: Any, numbers: npt.NDArray[Any]) -> None:
    if value.uses():
        value.replace_all_uses_with(graph.add_constant(f"{value.name}/folded", numbers))


def _infer(graph: Graph, node: Any) -> str | None:
    """Set the types of a node's results; the reason where that is not possible."""
    import onnx
    import onnx_ir as ir

    version = graph.model.opset_imports.get(node.domain)
    try:
        schema = onnx.defs.get_schema(node.op_type, version or 1, node.domain)
    except onnx.defs.SchemaError:
        return f"there is no operator {node.domain}::{node.op_type} in opset {version}"
    proto = _serialize(node)
    types, data = {}, {}
    for place, value in enumerate(node.inputs):
        if value is None:
            continue
        kind: Any = ir.serde.serialize_value(value).type
        types[f"in{place}"] = kind
        numbers = value.const_value
        small = 0 if numbers is None else _FEW if numbers.dtype.is_floating_point() else _SMALL
        if numbers is not None and numbers.size <= small:
            data[f"in{place}"] = onnx.numpy_helper.from_array(np.asarray(numbers.numpy()), f"in{place}")
    try:
        found = onnx.shape_inference.infer_node_outputs(
            schema,
            proto,
            types,
            data,
            opset_imports=[onnx.helper.make_opsetid(d, v) for d, v in graph.model.opset_imports.items()],
            ir_version=graph.model.ir_version,
        )
    except onnx.shape_inference.InferenceError as exc:
        return f"its shape cannot be inferred: {exc}"
    for place, value in enumerate(node.outputs):
        known = found.get(f"out{place}")
        if known is not None:
            value.type = ir.serde.deserialize_type_proto_for_type(known)
            value.shape = ir.serde.deserialize_type_proto_for_shape(known)
    return None
