"""Heads that change places by rows: op types, the same numbers to the bit, and what must stay as it is."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from edgevit.core.quantization import Quantization
from edgevit.graph.graph import Graph
from edgevit.graph.linears import read_weight
from edgevit.graph.passes.fuse_row_gather import fuse_row_gather
from edgevit.quantize.plan import apply_plan
from tests.support.quantized import fit_sites
from tests.support.small_graphs import make_graph, make_pixels, run_graph

# x is (windows, 4, 3, 5) for keys and (windows, 3, 4, 5) for the context, with two windows an image in WINDOWS
DEQUANTIZE = "s = Constant <value = float {0.1}> () z = Constant <value = int8 {3}> () d = DequantizeLinear (x, s, z) "
SWAP = "t = Transpose <perm: ints = [0, 2, 1, 3]> (d) "
FLATTEN = "c = Constant <value = int64[3] {-1, 4, 15}> () r = Reshape (t, c) "
KEYS = DEQUANTIZE + SWAP + "k = Transpose <perm: ints = [0, 1, 3, 2]> (t) y = MatMul (q, k)"
CONTEXT = DEQUANTIZE + SWAP + FLATTEN + "y = MatMul (r, w)"
TOKENS = DEQUANTIZE + SWAP + FLATTEN + "e = Constant <value = int64[3] {-1, 8, 15}> () l = Reshape (r, e) "
ORDER = "o = Constant <value = int64[6] {7, 2, 0, 5, 5, 1}> () "
WINDOWS = TOKENS + ORDER + "g = Gather <axis: int = 1> (l, o) y = MatMul (g, w)"
PATCHES = (  # that begin two rows in front of the image
    "b = Constant <value = int64[1] {0}> () e = Constant <value = int64[1] {6}> () "
    "a = Constant <value = int64[1] {1}> () i = Slice (x, b, e, a) "
    "p = Constant <value = int64[8] {0, 2, 0, 0, 0, 0, 0, 0}> () m = Pad (i, p) "
    "h = Constant <value = int64[4] {-1, 4, 3, 12}> () d = Reshape (m, h) "
    + SWAP
    + "c = Constant <value = int64[3] {1, 6, 48}> () r = Reshape (t, c) f = Cast <to: int = 1> (r) y = MatMul (f, w)"
)
KEY_INPUTS = "int8[4,4,3,5] x, float[4,3,6,5] q"
CONTEXT_INPUTS = "int8[4,3,4,5] x, float[15,2] w"
SYMBOLIC_INPUTS = "int8[n,3,4,5] x, float[15,2] w"


def parse(body: str, inputs: str) -> Graph:
    rank = "a,b,c,e" if " q" in inputs else "a,b,c"
    text = f'<ir_version: 10, opset_import: ["" : 20]> graph ({inputs}) => (float[{rank}] y) {{ {body} }}'
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type.lower()}_{index}"
    graph = Graph(ir.serde.deserialize_model(model))
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph.model)
    return graph


def run(graph: Graph, windows: int = 4) -> np.ndarray:
    generator = np.random.default_rng(0)
    feeds: dict[str, np.ndarray] = {}
    for value in graph.model.graph.inputs:
        shape = [d if isinstance(d, int) else windows for d in value.shape or ()]
        whole = value.dtype != ir.DataType.FLOAT
        numbers = generator.integers(-128, 128, shape) if whole else generator.normal(size=shape)
        feeds[value.name or ""] = numbers.astype(value.dtype.numpy() if value.dtype is not None else np.float32)
    content = ir.serde.serialize_model(graph.model).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, feeds)[0]
    return result


def moves(graph: Graph) -> dict[str, int]:
    counts = graph.op_counts()
    return {op: counts[op] for op in ("Gather", "Transpose") if op in counts}


@pytest.mark.parametrize(
    ("body", "inputs", "expected"),
    [
        (KEYS, KEY_INPUTS, {"Gather": 1, "Transpose": 1}),
        (CONTEXT, CONTEXT_INPUTS, {"Gather": 1}),
        (WINDOWS, CONTEXT_INPUTS, {"Gather": 1}),
        (PATCHES, "uint8[1,8,12,3] x, float[48,2] w", {"Gather": 1}),
    ],
    ids=["keys", "context", "windows", "patches"],
)
def test_fuse_row_gather_replaces_the_transpose_of_bytes(body: str, inputs: str, expected: dict[str, int]) -> None:
    graph = parse(body, inputs)
    before = run(graph)
    record = fuse_row_gather(graph)
    assert len(record.applied) == 1
    assert record.skipped == ()
    assert moves(graph) == expected
    np.testing.assert_array_equal(run(graph), before)


@pytest.mark.parametrize("body", [CONTEXT, WINDOWS], ids=["context", "windows"])
@pytest.mark.parametrize("windows", [2, 6])
def test_fuse_row_gather_holds_for_every_batch(body: str, windows: int) -> None:
    graph = parse(body, SYMBOLIC_INPUTS)
    before = run(graph, windows)
    assert len(fuse_row_gather(graph).applied) == 1
    np.testing.assert_array_equal(run(graph, windows), before)


@pytest.mark.parametrize(
    ("tokens", "gather"),
    [
        ("{-1, 8, 15}", "Gather <axis: int = 2> (l, o) y = MatMul (g, v)"),  # channels
        ("{-1, 8, 15}", "Gather <axis: int = 0> (l, p) y = MatMul (g, w)"),  # images
        ("{-1, 16, 5}", "Gather <axis: int = 1> (l, o) y = MatMul (g, u)"),  # rows of another length
        ("{-1, 2, 30}", "Gather <axis: int = 1> (l, p) y = MatMul (g, t2)"),  # two tokens at once
    ],
)
def test_fuse_row_gather_leaves_gathers_of_anything_but_tokens_apart(tokens: str, gather: str) -> None:
    body = TOKENS.replace("{-1, 8, 15}", tokens) + ORDER + "p = Constant <value = int64[2] {1, 0}> () g = " + gather
    inputs = CONTEXT_INPUTS + ", float[6,2] v, float[5,2] u, float[30,2] t2"
    graph = parse(body, inputs)
    before = run(graph)
    fuse_row_gather(graph)
    assert moves(graph) == {"Gather": 2}
    np.testing.assert_array_equal(run(graph), before)


@pytest.mark.parametrize(
    ("body", "inputs", "reason"),
    [
        (DEQUANTIZE + SWAP + "y = MatMul (q, t)", "int8[4,5,3,6] x, float[4,3,6,5] q", "takes it in"),
        (DEQUANTIZE + SWAP + "y = MatMul (t, q)", "int8[4,6,3,5] x, float[4,3,5,6] q", "takes it in"),
        (CONTEXT.replace("y =", "b = Relu (t) f = ReduceSum (b) m =") + " y = Add (m, f)", CONTEXT_INPUTS, "several"),
        (
            DEQUANTIZE + "d2 = Relu (d) " + SWAP.replace("(d)", "(d2)") + FLATTEN + "y = MatMul (r, w)",
            CONTEXT_INPUTS,
            None,
        ),
        (
            CONTEXT.replace("[0, 2, 1, 3]", "[0, 3, 1, 2]").replace("4, 15", "5, 12"),
            "int8[4,3,4,5] x, float[12,2] w",
            None,
        ),
    ],
    ids=["values", "queries", "several_readers", "floats", "other_axes"],
)
def test_fuse_row_gather_leaves_near_misses_alone(body: str, inputs: str, reason: str | None) -> None:
    graph = parse(body, inputs)
    before = dict(graph.op_counts())
    record = fuse_row_gather(graph)
    assert record.applied == ()
    assert dict(graph.op_counts()) == before
    assert [reason is not None and reason in skip.reason for skip in record.skipped] == [True] * (reason is not None)


@pytest.fixture(scope="module", params=["vit", "swin"])
def quantized(request: pytest.FixtureRequest) -> tuple[str, Graph]:
    family: str = request.param
    quantization = Quantization(observer="minmax", products="both", rounding="nearest")
    base, plan, _ = fit_sites(make_graph(family), make_pixels(family, 4), quantization, "openvino")
    return family, apply_plan(base, plan)


def test_fuse_row_gather_of_a_quantised_model_leaves_transposes_to_products_alone(
    quantized: tuple[str, Graph],
) -> None:
    family, graph = quantized
    images = make_pixels(family, 3, seed=1)
    before = run_graph(graph, images)[0]
    fused = graph.copy()
    record = fuse_row_gather(fused)
    assert record.applied
    for node in fused.model.graph:
        if node.op_type == "Transpose":
            readers = [use.node for use in node.outputs[0].uses()]
            assert [reader.op_type for reader in readers] == ["MatMul"]
            assert read_weight(readers[0]) is None
    np.testing.assert_array_equal(run_graph(fused, images)[0], before)


def test_fuse_row_gather_of_a_float_model_changes_nothing() -> None:
    graph = make_graph("vit")
    record = fuse_row_gather(graph)
    # the image is bytes in a float model too
    assert record.applied == ("patch_embed/transpose",)
