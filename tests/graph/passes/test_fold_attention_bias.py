"""Bias and mask of Swin's scores, and scores that are not to be touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgevit.graph.passes.fold_attention_bias import fold_attention_bias
from tests.support.pass_graphs import constant, draw, parse, run

WINDOWS, HEADS, TOKENS = 2, 3, 4
X = {"q": draw(WINDOWS, HEADS, TOKENS, 5), "k": draw(WINDOWS, HEADS, 5, TOKENS, seed=1)}
IO: dict[str, Any] = {
    "inputs": f"float[{WINDOWS},{HEADS},{TOKENS},5] q, float[{WINDOWS},{HEADS},5,{TOKENS}] k",
    "outputs": "float[a,b,c,d] y",
}
CONSTANTS = (
    constant("bias", draw(1, HEADS, TOKENS, TOKENS, seed=2))
    + constant("mask", draw(1, WINDOWS, 1, TOKENS, TOKENS, seed=3))
    + constant("five", np.asarray([1, WINDOWS, HEADS, TOKENS, TOKENS]))
    + constant("four", np.asarray([WINDOWS, HEADS, TOKENS, TOKENS]))
    + "half = Constant <value = float {0.5}> () "
)
MASKED = "a = Add (m, bias) b = Reshape (a, five) c = Add (b, mask) d = Reshape (c, four) "


@pytest.mark.parametrize("scale", ["m = Identity (p) ", "m = Mul (p, half) "])
def test_fold_attention_bias_leaves_one_add_at_rank_four_with_equal_numbers(scale: str) -> None:
    graph = parse(CONSTANTS + "p = MatMul (q, k) " + scale + MASKED + "w = Softmax <axis = -1> (d) y = Relu (w)", **IO)
    expected = run(graph, X)
    assert len(fold_attention_bias(graph).applied) == 1
    counts = graph.op_counts()
    assert (counts["Add"], counts["MatMul"], counts["Softmax"], counts.get("Mul", 0)) == (1, 1, 1, int("Mul" in scale))
    np.testing.assert_allclose(run(graph, X), expected, rtol=1e-5)


NEAR_MISSES = {
    "another_axis": "m = Identity (p) " + MASKED + "y = Softmax <axis = 2> (d)",
    "an_output": "m = Identity (p) " + MASKED + "y = Softmax <axis = -1> (d)",
    "a_scale_for_each": "m = Mul (p, bias) " + MASKED + "w = Softmax <axis = -1> (d) y = Relu (w)",
}


@pytest.mark.parametrize("near_miss", NEAR_MISSES)
def test_fold_attention_bias_leaves_near_misses_alone_and_says_why(near_miss: str) -> None:
    graph = parse(CONSTANTS + "p = MatMul (q, k) " + NEAR_MISSES[near_miss], **IO)
    before = dict(graph.op_counts())
    record = fold_attention_bias(graph)
    assert record.applied == ()
    assert len(record.skipped) == 1
    assert ("output of the graph" if near_miss == "an_output" else "scores are") in record.skipped[0].reason
    assert dict(graph.op_counts()) == before
