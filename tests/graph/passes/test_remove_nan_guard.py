"""The guard behind softmax goes where it can never act."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgevit.graph.passes.remove_nan_guard import remove_nan_guard
from tests.support.pass_graphs import draw, parse, run

IO: dict[str, Any] = {"inputs": "float[2,4,3] x, float[4,4] open", "outputs": "float[2,4,4] y"}
SCORES = "t = Transpose <perm = [0, 2, 1]> (x) s = MatMul (x, t) "
GUARD = (
    "p = Softmax <axis = -1> ({}) n = IsNaN (p) z = Constant <value = float {{0.0}}> () w = Where (n, z, p) y = Neg (w)"
)
MASK = "m = Constant <value = float[4,4] {{0, 0, 0, 0, {0}, {0}, {0}, {0}, 0, 0, 0, 0, 0, 0, 0, 0}}> () a = Add (s, m) "
X = {"x": draw(2, 4, 3), "open": np.zeros((4, 4), np.float32)}


@pytest.mark.parametrize("body", [SCORES + GUARD.format("s"), SCORES + MASK.format("-100.0") + GUARD.format("a")])
def test_remove_nan_guard_where_scores_are_finite(body: str) -> None:
    graph = parse(body, **IO)
    expected = run(graph, X)
    assert len(remove_nan_guard(graph).applied) == 1
    assert "Where" not in graph.op_counts()
    np.testing.assert_array_equal(run(graph, X), expected)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (SCORES + MASK.format("-inf") + GUARD.format("a"), "its mask closes a whole row"),
        (SCORES + "a = Add (s, open) " + GUARD.format("a"), "what is added to the scores is computed"),
        (SCORES + GUARD.format("s").replace("Softmax <axis = -1>", "Log"), "it guards something else than a softmax"),
    ],
    ids=["closed_row", "computed_mask", "no_softmax"],
)
def test_remove_nan_guard_stays_where_it_may_act(body: str, reason: str) -> None:
    graph = parse(body, **IO)
    record = remove_nan_guard(graph)
    assert record.applied == ()
    assert [skip.reason for skip in record.skipped] == [reason]
    assert graph.op_counts()["Where"] == 1
