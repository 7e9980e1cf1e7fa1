"""What depends on shapes and constants alone is computed once."""

from __future__ import annotations

import numpy as np

from tests.passes.graphs import constant, draw, parse, run

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
