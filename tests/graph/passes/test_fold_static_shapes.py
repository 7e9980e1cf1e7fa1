"""What depends only on shapes and constants is computed once."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from edgevit.graph.passes.fold_static_shapes import fold_static_shapes
from tests.support.pass_graphs import constant, draw, parse, run

TARGET = "s = Shape (x) b = Gather <axis = 0> (s, zero) t = Concat <axis = 0> (b, rest) "
NUMBERS = constant("zero", np.asarray([0])) + constant("rest", np.asarray([-1]))
X = {"x": draw(2, 3, 4)}


def test_fold_static_shapes_computes_a_target_with_equal_numbers() -> None:
    graph = parse(NUMBERS + TARGET + "r = Reshape (x, t) y = Relu (r)", inputs="float[2,3,4] x")
    assert dict(graph.op_counts()) == {"Reshape": 1, "Relu": 1}
    np.testing.assert_array_equal(run(graph, X), np.maximum(X["x"].reshape(2, 12), 0))


def test_fold_static_shapes_leaves_the_target_of_an_open_batch_and_random_numbers() -> None:
    graph = parse(NUMBERS + TARGET + "r = Reshape (x, t) y = Relu (r)", inputs="float[n,3,4] x")
    assert graph.op_counts()["Shape"] == 1
    np.testing.assert_array_equal(run(graph, X), np.maximum(X["x"].reshape(2, 12), 0))
    noise = parse("n = RandomNormal <shape = [2, 3]> () y = Add (x, n)")
    assert noise.op_counts()["RandomNormal"] == 1


def test_fold_static_shapes_computes_a_resize_as_onnx_runtime_does() -> None:
    positions = draw(1, 1, 3, 3)
    body = constant("p", positions) + constant("scales", np.asarray([1, 1, 2, 2], np.float32))
    body += (
        'r = Resize <mode = "cubic", coordinate_transformation_mode = "pytorch_half_pixel", cubic_coeff_a = -0.75>'
        " (p, , scales) y = Add (x, r)"
    )
    text = '<ir_version: 9, opset_import: ["" : 20]> graph (float[1,1,6,6] x) => (float[a,b,c,d] y) { '
    whole = onnx.parser.parse_model(f"{text}{body} }}").SerializeToString()
    x = draw(1, 1, 6, 6, seed=1)
    expected = onnxruntime.InferenceSession(whole).run(None, {"x": x})[0]
    graph = parse(body, inputs="float[1,1,6,6] x")
    assert dict(graph.op_counts()) == {"Add": 1}
    np.testing.assert_array_equal(run(graph, {"x": x}), expected)


def test_fold_static_shapes_leaves_a_constant_that_cannot_be_computed_with_the_reason() -> None:
    graph = parse(constant("n", np.ones((2, 3), np.float32)) + "m = Mystery (n) y = Add (x, m)")
    assert graph.op_counts()["Mystery"] == 1
    skipped = fold_static_shapes(graph).skipped
    assert any("cannot be computed ahead" in skip.reason for skip in skipped)


@pytest.mark.parametrize(("kind", "left"), [(1, {"Mul": 1}), (10, {"Cast": 1, "Mul": 1, "Relu": 1})])
def test_fold_static_shapes_settles_a_cast_to_the_type_of_another_value(kind: int, left: dict[str, int]) -> None:
    """What dynamo's exporter leaves of a scale: a constant, cast to the type of what it multiplies."""
    body = f"n = Constant <value = float {{0.25}}> () h = Cast <to = {kind}> (x) c = CastLike (n, h) r = Sqrt (c) "
    body += "y = Mul (x, r) " if kind == 1 else "m = Mul (h, r) y = Relu (m) "
    graph = parse(body, "float[2,3] x", "float[2,3] y" if kind == 1 else "float16[2,3] y")
    counts = dict(graph.op_counts())
    assert counts == left
    x = draw(2, 3)
    np.testing.assert_allclose(run(graph, {"x": x}), x / 2 if kind == 1 else np.maximum(x / 2, 0), rtol=1e-3)


def test_fold_static_shapes_makes_a_cast_of_a_computed_value_to_a_known_type() -> None:
    graph = parse("n = Relu (x) c = CastLike (n, x) y = Add (c, x)", "float[2,3] x", "float[2,3] y")
    assert dict(graph.op_counts()) == {"Add": 1, "Cast": 1, "Relu": 1}


def _branches(asked: str) -> str:
    """``x + 1`` or ``x · (2 + x)``, whichever ``asked`` says."""
    return (
        f"{asked} r = If (c) <then_branch = yes () => (float[2,3] a) {{ a = Add (x, one) }}, "
        "else_branch = no () => (float[2,3] b) "
        "{ two = Constant <value = float {2.0}> () s = Add (x, two) b = Mul (x, s) }> y = Relu (r)"
    )


@pytest.mark.parametrize("least", [1, 2])
def test_branch_that_a_rank_decides_takes_the_place_of_its_if(least: int) -> None:
    rank = f"{constant('least', np.array([least]))} h = Shape (x) n = Size (h) c = Greater (n, least)"
    graph = parse(constant("one", np.ones(1, np.float32)) + _branches(rank))
    counts = graph.op_counts()
    assert "If" not in counts
    assert (counts.get("Mul", 0), counts.get("Add", 0)) == ((0, 1) if least == 1 else (1, 1))
    x = draw(2, 3)
    np.testing.assert_array_equal(run(graph, {"x": x}), np.maximum(x + 1 if least == 1 else x * (2 + x), 0))


def test_branch_that_the_image_decides_stays() -> None:
    image = f"{constant('least', np.zeros(1, np.float32))} h = ReduceSum <keepdims = 0> (x) c = Greater (h, least)"
    graph = parse(constant("one", np.ones(1, np.float32)) + _branches(image))
    assert graph.op_counts()["If"] == 1
    for x in (abs(draw(2, 3)), -abs(draw(2, 3))):
        expected = x + 1 if x.sum() > 0 else x * (2 + x)
        np.testing.assert_array_equal(run(graph, {"x": x}), np.maximum(expected, 0))
