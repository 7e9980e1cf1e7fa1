"""Reshapes and transposes that follow one another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgevit.graph.passes.remove_moves import remove_moves
from tests.support.pass_graphs import constant, draw, parse, run

IO: dict[str, Any] = {"inputs": "float[2,3,4] x", "outputs": "float[a,b,c] y"}
X = {"x": draw(2, 3, 4)}
SHAPES = (
    constant("a", np.asarray([6, 4]))
    + constant("b", np.asarray([2, 12]))
    + constant("c", np.asarray([2, 3, 4]))
    + constant("d", np.asarray([4, 3, 2]))
    + constant("e", np.asarray([1, 6, 4]))
)


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("p = Reshape (x, a) q = Reshape (p, b) r = Reshape (q, c) y = Relu (r)", {"Relu": 1}),
        ("p = Reshape (x, a) q = Reshape (p, b) r = Reshape (q, e) y = Relu (r)", {"Relu": 1, "Reshape": 1}),
        (
            "p = Transpose <perm = [1, 0, 2]> (x) q = Transpose <perm = [1, 2, 0]> (p) y = Relu (q)",
            {"Relu": 1, "Transpose": 1},
        ),
        ("p = Transpose <perm = [1, 0, 2]> (x) q = Transpose <perm = [1, 0, 2]> (p) y = Relu (q)", {"Relu": 1}),
        (
            "p = Reshape (x, a) q = Reshape (p, c) r = Transpose <perm = [2, 1, 0]> (q) s = Reshape (r, b) "
            "t = Reshape (s, d) y = Relu (t)",
            {"Relu": 1, "Transpose": 1},
        ),
    ],
    ids=["back_to_the_start", "to_another_shape", "two_transposes", "there_and_back", "one_transpose_among_reshapes"],
)
def test_remove_moves_leaves_what_is_needed_with_equal_numbers(body: str, left: dict[str, int]) -> None:
    graph = parse(SHAPES + body, **IO)
    expected = run(graph, X)
    assert len(remove_moves(graph).applied) == 1
    assert dict(graph.op_counts()) == left
    np.testing.assert_array_equal(run(graph, X), expected)


@pytest.mark.parametrize(
    "body",
    [
        "p = Reshape (x, c) q = Transpose <perm = [2, 1, 0]> (p) s = Reshape (q, e) y = Relu (s)",
        "p = Transpose <perm = [1, 0, 2]> (x) n = Neg (p) q = Transpose <perm = [1, 0, 2]> (n) y = Relu (q)",
    ],
    ids=["two_of_three_are_needed", "computed_between"],
)
def test_remove_moves_keeps_every_number(body: str) -> None:
    graph = parse(SHAPES + body, **IO)
    expected = run(graph, X)
    remove_moves(graph)
    assert graph.op_counts()["Transpose"] == body.count("Transpose")
    np.testing.assert_array_equal(run(graph, X), expected)
