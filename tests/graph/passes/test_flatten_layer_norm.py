"""A LayerNormalization of a map is one of its rows, with the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgevit.graph.graph import known_shape
from edgevit.graph.passes.flatten_layer_norm import flatten_layer_norm
from tests.support.pass_graphs import constant, draw, parse, run

IO: dict[str, Any] = {"inputs": "float[2,6,3,5] x", "outputs": "float[a,b,c,d] y"}
NUMBERS = constant("scale", draw(6, seed=1)) + constant("bias", draw(6, seed=2))
TURN, BACK = "t = Transpose <perm = [0, 2, 3, 1]> (x) ", "y = Transpose <perm = [0, 3, 1, 2]> (n)"
X = {"x": draw(2, 6, 3, 5)}


def normalize(x: Any, epsilon: float) -> Any:
    """Over axis 1, in float64."""
    x = x.astype(np.float64)
    middle = x - x.mean(axis=1, keepdims=True)
    scaled = middle / np.sqrt(np.square(middle).mean(axis=1, keepdims=True) + epsilon)
    return scaled * draw(6, seed=1)[:, None, None] + draw(6, seed=2)[:, None, None]


@pytest.mark.parametrize("axis", ["-1", "3"])
def test_norm_of_a_map_becomes_one_of_rows(axis: str) -> None:
    body = f"{NUMBERS}{TURN}n = LayerNormalization <axis = {axis}, epsilon = 0.01> (t, scale, bias) {BACK}"
    graph = parse(body, **IO)
    assert len(flatten_layer_norm(graph).applied) == 1
    norm = next(node for node in graph.model.graph if node.op_type == "LayerNormalization")
    assert known_shape(norm.inputs[0]) == known_shape(norm.outputs[0]) == (2, 15, 6)
    np.testing.assert_allclose(run(graph, X), normalize(X["x"], 0.01), atol=1e-5)
    assert flatten_layer_norm(graph).applied == ()


@pytest.mark.parametrize(
    "body",
    [
        f"{NUMBERS}{TURN}y = LayerNormalization (t, scale, bias)",
        f"{TURN}{constant('wide', draw(5, 6))}n = LayerNormalization <axis = 2> (t, wide) {BACK}",
        f"{NUMBERS}{TURN}n, mean = LayerNormalization (t, scale, bias) s = Mul (n, mean) "
        "y = Transpose <perm = [0, 3, 1, 2]> (s)",
        f"{NUMBERS}s = Constant <value = int64[3] {{2, 15, 6}}> () t = Reshape (x, s) "
        "r = LayerNormalization (t, scale, bias) u = Constant <value = int64[4] {2, 3, 5, 6}> () y = Reshape (r, u)",
    ],
    ids=["graph_output", "two_axes", "mean_is_read", "rows_already"],
)
def test_other_norms_are_left_alone(body: str) -> None:
    graph = parse(body, **IO)
    before = dict(graph.op_counts())
    assert flatten_layer_norm(graph).applied == ()
    assert dict(graph.op_counts()) == before
