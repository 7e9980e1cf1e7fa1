"""Each pass by the ops after it, by equal numbers, and by a near miss that it must leave alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from edgevit.graph.graph import Graph
from edgevit.graph.passes.fold_constants import fold_constants
from edgevit.graph.passes.fold_reshape_target import fold_reshape_target
from edgevit.graph.passes.fold_static_shapes import fold_static_shapes
from edgevit.graph.passes.remove_identity import remove_identity

Feeds = Mapping[str, npt.NDArray[Any]]


def parse(body: str, inputs: str = "float[2,3] x", outputs: str = "float[a,b] y") -> Graph:
    text = f'<ir_version: 10, opset_import: ["" : 20]> graph ({inputs}) => ({outputs}) {{ {body} }}'
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type.lower()}_{index}"
    return Graph(ir.serde.deserialize_model(model))


def run(graph: Graph, feeds: Feeds) -> npt.NDArray[np.float32]:
    model = ir.serde.serialize_model(graph.model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: npt.NDArray[np.float32] = session.run(None, feeds)[0]
    return result


def lift_constants(graph: Graph) -> None:
    """Constants as initializers, as the passes before leave them, and nothing else folded."""
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph.model)


X: Feeds = {"x": np.arange(6, dtype=np.float32).reshape(2, 3) - 2}


@pytest.mark.parametrize(
    "body",
    [
        "t = Identity (x) y = Relu (t)",
        "t = Cast <to: int = 1> (x) y = Relu (t)",
        "s = Constant <value = int64[2] {2, 3}> () t = Reshape (x, s) y = Relu (t)",
        "s = Constant <value = int64[2] {1, 3}> () t = Expand (x, s) y = Relu (t)",
        "t = Transpose <perm: ints = [0, 1]> (x) y = Relu (t)",
        "s = Constant <value = int64[2] {1, 1}> () t = Tile (x, s) y = Relu (t)",
        "t = Dropout (x) y = Relu (t)",
        "r = Constant <value = float {0.5}> () t, kept = Dropout (x, r) y = Relu (t)",
    ],
    ids=["identity", "cast", "reshape", "expand", "transpose", "tile", "dropout", "dropout_with_a_mask"],
)
def test_remove_identity_removes_each_case(body: str) -> None:
    graph = parse(body)
    lift_constants(graph)
    expected = run(graph, X)
    record = remove_identity(graph)
    assert len(record.applied) == 1
    assert dict(graph.op_counts()) == {"Relu": 1}
    np.testing.assert_array_equal(run(graph, X), expected)


@pytest.mark.parametrize(
    "body",
    [
        "t = Cast <to: int = 10> (x) u = Cast <to: int = 1> (t) y = Relu (u)",
        "s = Constant <value = int64[2] {3, 2}> () t = Reshape (x, s) y = Relu (t)",
        "t = Transpose <perm: ints = [1, 0]> (x) y = Relu (t)",
        "s = Constant <value = int64[2] {1, 2}> () t = Tile (x, s) y = Relu (t)",
        "y = Identity (x)",
        "r = Constant <value = float {0.5}> () t = Dropout (x, r, yes) y = Relu (t)",
        "r = Constant <value = float {0.5}> () t = Dropout (x, r, asked) y = Relu (t)",
        "t, kept = Dropout (x) n = Cast <to: int = 1> (kept) y = Add (t, n)",
    ],
    ids=[
        "cast_that_rounds",
        "reshape",
        "transpose",
        "tile",
        "graph_output",
        "dropout_in_training",
        "dropout_that_is_asked",
        "dropout_whose_mask_is_read",
    ],
)
def test_remove_identity_leaves_near_misses_alone(body: str) -> None:
    yes = "n = Constant <value = float {1.0}> () yes = Cast <to: int = 9> (n) " if "yes" in body else ""
    graph = parse(yes + body, inputs="float[2,3] x" + (", bool asked" if "asked" in body else ""))
    fold_static_shapes(graph)
    lift_constants(graph)
    before = dict(graph.op_counts())
    assert remove_identity(graph).applied == ()
    assert dict(graph.op_counts()) == before


_NOBODY = "n = Constant <value = bool[2,1] {{{0}, {1}}}> () z = Constant <value = float {{0.0}}> () "


@pytest.mark.parametrize(
    ("body", "applied"),
    [
        (_NOBODY.format(0, 0) + "t = Where (n, z, x) y = Relu (t)", 1),
        (_NOBODY.format(1, 1) + "t = Where (n, x, z) y = Relu (t)", 1),
        (_NOBODY.format(0, 1) + "t = Where (n, z, x) y = Relu (t)", 0),
        (_NOBODY.format(1, 1) + "t = Where (n, z, x) y = Relu (t)", 0),
        (_NOBODY.format(0, 0) + "w = Unsqueeze (n, one) t = Where (w, z, x) y = Relu (t)", 0),
        (_NOBODY.format(0, 0) + "y = Where (n, z, x)", 0),
    ],
    ids=["no_padding", "all_kept", "some_padding", "a_constant", "result_is_wider", "graph_output"],
)
def test_remove_identity_removes_a_mask_of_nothing(body: str, applied: int) -> None:
    graph = parse("one = Constant <value = int64[1] {0}> () " + body)
    lift_constants(graph)
    expected, before = run(graph, X), dict(graph.op_counts())
    assert len(remove_identity(graph).applied) == applied
    assert ("Where" in graph.op_counts()) is not bool(applied)
    assert applied or dict(graph.op_counts()) == before
    np.testing.assert_array_equal(run(graph, X), expected)


def test_remove_identity_leaves_a_reshape_of_unknown_size_alone() -> None:
    graph = parse("s = Constant <value = int64[2] {-1, 3}> () t = Reshape (x, s) y = Relu (t)", inputs="float[n,3] x")
    lift_constants(graph)
    assert remove_identity(graph).applied == ()


def test_fold_constants_computes_transposed_weights_once() -> None:
    weight = np.arange(12, dtype=np.float32).reshape(4, 3)
    values = ", ".join(str(float(v)) for v in weight.flatten())
    graph = parse(
        f"w = Constant <value = float[4,3] {{{values}}}> () t = Transpose <perm: ints = [1, 0]> (w) y = MatMul (x, t)"
    )
    expected = run(graph, X)
    fold_constants(graph)
    assert dict(graph.op_counts()) == {"MatMul": 1}
    np.testing.assert_array_equal(run(graph, X), expected)
    np.testing.assert_array_equal(expected, np.asarray(X["x"]) @ weight.T)


def test_fold_constants_keeps_two_transposes_in_front_of_a_product_apart() -> None:
    graph = parse(
        "a = Transpose <perm: ints = [0, 2, 1, 3]> (x) b = Transpose <perm: ints = [0, 1, 3, 2]> (a) y = MatMul (a, b)",
        inputs="float[1,2,3,4] x",
        outputs="float[a,b,c,d] y",
    )
    record = fold_constants(graph)
    assert record.applied == ()
    assert dict(graph.op_counts()) == {"MatMul": 1, "Transpose": 2}


def dynamic_reshape(dims: str, known: bool = True) -> Graph:
    graph = parse(
        "shape = Shape <start: int = 0, end: int = 1> (x) rest = Constant <value = int64[1] {12}> () "
        "s = Concat <axis: int = 0> (shape, rest) r = Reshape (x, s) y = Relu (r)",
        inputs="float[batch,3,4] x",
        outputs=f"float[{dims}] y",
    )
    reshape = next(n for n in graph.model.graph if n.op_type == "Reshape")
    reshape.outputs[0].shape = ir.Shape(["batch", 12]) if known else ir.Shape(["batch", "rest"])
    return graph


@pytest.mark.parametrize("batch", [1, 3])
def test_fold_reshape_target_replaces_shape_arithmetic(batch: int) -> None:
    graph = dynamic_reshape("batch,12")
    feeds: Feeds = {"x": np.random.default_rng(0).normal(size=(batch, 3, 4)).astype(np.float32)}
    expected = run(graph, feeds)
    record = fold_reshape_target(graph)
    assert len(record.applied) == 1
    fold_constants(graph)
    assert dict(graph.op_counts()) == {"Relu": 1, "Reshape": 1}
    np.testing.assert_array_equal(run(graph, feeds), expected)


def test_fold_reshape_target_leaves_two_unknown_dimensions_alone_and_says_why() -> None:
    graph = dynamic_reshape("batch,rest", known=False)
    before = dict(graph.op_counts())
    record = fold_reshape_target(graph)
    assert record.applied == ()
    assert "more than one dimension" in record.skipped[0].reason
    assert dict(graph.op_counts()) == before


def test_graph_survives_saving_and_loading(tmp_path: Path) -> None:
    graph = parse("t = Relu (x) y = Neg (t)")
    graph.save(tmp_path / "graph.onnx")
    again = Graph.load(tmp_path / "graph.onnx")
    assert again.op_counts() == graph.op_counts() == {"Neg": 1, "Relu": 1}


def test_copy_of_a_graph_is_changed_alone() -> None:
    graph = parse("t = Identity (x) y = Relu (t)")
    remove_identity(graph.copy())
    assert dict(graph.op_counts()) == {"Identity": 1, "Relu": 1}
