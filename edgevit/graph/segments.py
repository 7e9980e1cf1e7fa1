"""Segments: a graph cut at the values through which everything passes, so that it can be quantised part by part.

A cut is a value that is the only activation alive behind its producer: the residual stream between two halves of a
block. Every segment holds at least one site and reads one value, so calibration keeps one tensor an image and no more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from edgevit.core.cores import limit_threads
from edgevit.graph.graph import SITE_OPS, Graph

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_LARGE_BYTES = 1024
_NOTHING: Mapping[str, Any] = MappingProxyType({})
# numpy has no such types that ONNX Runtime would take:
_FOREIGN = (ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.FLOAT8E4M3FN)


@dataclass(frozen=True)
class Segment:
    """Consecutive nodes between two cuts.

    Attributes:
        nodes: Of the whole graph, in the order of execution.
        source: The one activation that they read.
        result: The one that later segments read; of the last segment the graph's last output.
        outputs: The graph's outputs that are computed here, in its order.
    """

    nodes: tuple[ir.Node, ...]
    source: ir.Value
    result: ir.Value
    outputs: tuple[ir.Value, ...] = ()


def split_graph(graph: Graph) -> tuple[Segment, ...]:
    """Cut a graph into the smallest segments that hold a site each; what it reads beside its first input is no cut.

    Of several outputs the last one is where everything ends; the others, such as the levels of a backbone, leave on the
    way and do not keep a cut from being one.
    """
    return _split(graph, tuple(graph.model.graph), tuple(graph.model.graph.outputs))


def split_part(graph: Graph, nodes: Collection[ir.Node]) -> tuple[Segment, ...]:
    """The same of some of the nodes, which read nothing of the others: what others read of them are its outputs."""
    inside = set(nodes)
    ordered = tuple(node for node in graph.model.graph if node in inside)
    read = [v for n in ordered for v in n.outputs if v.is_graph_output() or any(u.node not in inside for u in v.uses())]
    return _split(graph, ordered, tuple(read))


def _split(graph: Graph, part: Sequence[ir.Node], outputs: tuple[ir.Value, ...]) -> tuple[Segment, ...]:
    inside = set(part)

    def count_uses(value: ir.Value) -> int:
        return sum(use.node in inside for use in value.uses())

    segments: list[Segment] = []
    nodes: list[ir.Node] = []
    source = graph.model.graph.inputs[0]
    pending = {source: count_uses(source)}  # uses that are still to come, by live value
    for node in part:
        nodes.append(node)
        for value in node.inputs:
            if value in pending:
                pending[value] -= 1
                if not pending[value]:
                    del pending[value]
        for value in node.outputs:
            if uses := count_uses(value) + (value is outputs[-1]):
                pending[value] = uses
        result = node.outputs[0]
        if len(pending) == 1 and result in pending and _may_end(graph, nodes, result):
            segments.append(_make_segment(nodes, source, result, outputs))
            source, nodes = result, []
    if nodes:  # what follows the last site belongs to it
        last = segments.pop()
        segments.append(_make_segment([*last.nodes, *nodes], last.source, outputs[-1], outputs))
    return tuple(segments)


def _make_segment(
    nodes: Sequence[ir.Node], source: ir.Value, result: ir.Value, outputs: tuple[ir.Value, ...]
) -> Segment:
    made = {value for node in nodes for value in node.outputs}
    return Segment(tuple(nodes), source, result, tuple(value for value in outputs if value in made))


def join_segments(segments: Sequence[Segment]) -> Segment:
    """Consecutive segments, at least one, as a single one."""
    nodes = tuple(node for segment in segments for node in segment.nodes)
    outputs = tuple(value for segment in segments for value in segment.outputs)
    return Segment(nodes, segments[0].source, segments[-1].result, outputs)


def _may_end(graph: Graph, nodes: Sequence[ir.Node], result: ir.Value) -> bool:
    """Whether the segment holds a site, and the next node is not the bias of its last one."""
    if not any(node.op_type in SITE_OPS for node in nodes):
        return False
    readers = [use.node for use in result.uses()]
    last = nodes[-1].op_type in SITE_OPS
    return not (last and len(readers) == 1 and readers[0].op_type == "Add")


def extract_segment(segment: Segment, taps: Sequence[str] = ()) -> Graph:
    """A graph of copies of the segment's nodes; names are kept, weights shared.

    Its first input is the segment's source. Of a graph with further inputs than the image it has those that it reads.

    Args:
        segment: Of a graph, which is not changed.
        taps: Names of values inside that become outputs, behind the segment's result; that of the result itself is
            passed over.
    """
    names = [segment.result.name or "", *(name for name in taps if name != segment.result.name)]
    read = (value for node in segment.nodes for value in node.inputs if value is not None and value.is_graph_input())
    return extract_nodes(segment.nodes, list(dict.fromkeys([segment.source, *read])), names)


def extract_nodes(nodes: Sequence[ir.Node], sources: Sequence[ir.Value], results: Sequence[str]) -> Graph:
    """A graph of copies of some nodes; names are kept, weights shared.

    Args:
        nodes: Of a graph, which is not changed, in the order of execution.
        sources: What they read that none of them computes: its inputs.
        results: Names of values that become its outputs.
    """
    copies: dict[ir.Value, ir.Value] = {}

    def copy(value: ir.Value | None) -> ir.Value | None:
        if value is None:
            return None
        if value not in copies:
            twin = ir.Value(name=value.name, shape=value.shape, type=value.type, const_value=value.const_value)
            copies[value] = twin
        return copies[value]

    inlets = [twin for v in sources if (twin := copy(v)) is not None]
    made: list[ir.Node] = []
    initializers: dict[str, ir.Value] = {}
    for node in nodes:
        inputs = [copy(v) for v in node.inputs]
        for value, twin in zip(node.inputs, inputs, strict=True):
            if value is not None and twin is not None and value.is_initializer():
                initializers[twin.name or ""] = twin
        outputs = [twin for v in node.outputs if (twin := copy(v)) is not None]
        attributes = list(node.attributes.values())
        made.append(
            ir.Node(node.domain, node.op_type, inputs, attributes, outputs=outputs, name=node.name, version=None)
        )
    inside = {v.name: v for v in copies.values()}
    outlets = [inside[name] for name in results]
    for value in (*inlets, *outlets):
        value.dtype = value.dtype or ir.DataType.FLOAT
    owner = nodes[0].graph
    opsets = dict(owner.opset_imports) if owner is not None else {"": 20}
    inner = ir.Graph(inlets, outlets, nodes=made, initializers=list(initializers.values()), opset_imports=opsets)
    return Graph(ir.Model(inner, ir_version=10))


def release_weights(segment: Segment) -> int:
    """Give back the memory in which weights that lie on disk were read; they are read again when they are wanted.

    Returns:
        Bytes of all the segment's weights, wherever they lie.
    """
    held = 0
    for node in segment.nodes:
        for value in node.inputs:
            tensor = value.const_value if value is not None else None
            held += tensor.nbytes if tensor is not None else 0
            if isinstance(tensor, ir.ExternalTensor):
                with contextlib.suppress(BufferError):  # somebody still looks at it, and frees it in the end
                    tensor.release()
    return held


def run_inputs(graph: Graph, feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
    """All outputs of a graph of several inputs, by ONNX Runtime on the CPU, once."""
    runner = SegmentRunner(graph)
    found: list[npt.NDArray[np.float32]] = runner.session.run(None, dict(feeds))
    return found


class SegmentRunner:
    """A segment in ONNX Runtime on the CPU.

    Attributes:
        session: The library's own.
    """

    def __init__(self, graph: Graph) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = limit_threads()
        # One run after the other, image by image: arenas would keep the largest of every segment.
        options.enable_cpu_mem_arena = False
        # Q/DQ pairs in float arithmetic, as they stand: the INT8 forms of some Linears take twice as long.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        # Weights packed for a kernel are a second copy of all of them; a few images are not worth it.
        options.add_session_config_entry("session.disable_prepacking", "1")
        content, weights, folder = _split_weights(graph)
        options.add_external_initializers(list(weights), list(weights.values()))
        if folder is not None:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._input, *self._further = [value.name for value in self.session.get_inputs()]
        self._outputs = [output.name for output in self.session.get_outputs()]

    def run(
        self, value: npt.NDArray[Any], further: Mapping[str, npt.NDArray[Any]] = _NOTHING
    ) -> list[npt.NDArray[np.float32]]:
        """The segment's result, then its taps; ``further`` has, and may have more than, its further inputs."""
        feeds = {self._input: value, **{name: further[name] for name in self._further}}
        outputs: list[npt.NDArray[np.float32]] = self.session.run(None, feeds)
        return outputs

    def run_named(
        self, value: npt.NDArray[Any], further: Mapping[str, npt.NDArray[Any]] = _NOTHING
    ) -> dict[str, npt.NDArray[np.float32]]:
        """As :meth:`run`, by name."""
        return dict(zip(self._outputs, self.run(value, further), strict=True))

    def run_fed(self, values: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
        """All outputs by name, of a graph of several inputs; more may be given than it reads."""
        feeds = {value.name: values[value.name] for value in self.session.get_inputs()}
        return dict(zip(self._outputs, self.session.run(None, feeds), strict=True))


def _split_weights(graph: Graph) -> tuple[bytes, dict[str, Any], str | None]:
    """The model without its larger weights, and how ONNX Runtime gets them without a copy.

    Weights on disk stay references to their file, which ONNX Runtime maps itself; the last item is its folder. Others
    are OrtValues that share memory.
    """
    import numpy as np
    import onnxruntime

    weights: dict[str, Any] = {}
    folder: str | None = None
    heavy: list[tuple[ir.Value, ir.TensorProtocol]] = []
    try:
        for name, value in graph.model.graph.initializers.items():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor) and folder in (None, str(tensor.base_dir)):
                folder = str(tensor.base_dir)
                continue
            if tensor is None or tensor.nbytes <= _LARGE_BYTES or tensor.dtype in _FOREIGN:
                continue
            array = np.ascontiguousarray(tensor.numpy())
            weights[name] = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            heavy.append((value, tensor))
            value.const_value = ir.ExternalTensor(
                "elsewhere", 0, array.nbytes, tensor.dtype, shape=ir.Shape(array.shape), name=name
            )
        content: bytes = ir.to_proto(graph.model).SerializeToString()
    finally:
        for value, tensor in heavy:  # a copy of the graph without them would take longer than all else here
            value.const_value = tensor
    return content, weights, folder
