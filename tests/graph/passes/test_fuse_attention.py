"""Attention as exporters write it, in both forms that engines fuse, and what is no plain attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgevit.graph.graph import Graph
from edgevit.graph.passes.fuse_attention import Form, fuse_attention
from tests.support.pass_graphs import constant, draw, parse, run

TOKENS, HEADS, WIDTH = 5, 2, 4
CHANNELS = HEADS * WIDTH
X = {"x": draw(1, TOKENS, CHANNELS), "z": draw(1, TOKENS, CHANNELS, seed=9)}
SHAPE = f"float[1,{TOKENS},{CHANNELS}]"
IO: dict[str, Any] = {"inputs": f"{SHAPE} x, {SHAPE} z", "outputs": f"{SHAPE} y"}
CONSTANTS = (
    constant("w", draw(CHANNELS, 3 * CHANNELS, seed=1))
    + constant("wb", draw(3 * CHANNELS, seed=2))
    + constant("five", np.asarray([1, TOKENS, 3, HEADS, WIDTH]))
    + constant("heads", np.asarray([1, TOKENS, HEADS, WIDTH]))
    + constant("rows", np.asarray([1, TOKENS, CHANNELS]))
    + "".join(f"{name} = Constant <value = int64 {{{i}}}> () " for i, name in enumerate(("zero", "one", "two")))
    + "scale = Constant <value = float {0.5}> () width = Constant <value = float {4.0}> () root = Sqrt (width) "
    + "halves = Sqrt (scale) negative = Constant <value = float {-10000.0}> () open = Cast <to = 9> (numbers) "
    + constant("numbers", (np.arange(TOKENS * TOKENS).reshape(1, 1, TOKENS, TOKENS) % 3).astype(np.float32))
    + constant("table", draw(1, HEADS, TOKENS, TOKENS, seed=8))
    + constant("each_head", np.asarray([0.3, 0.7], np.float32).reshape(1, HEADS, 1, 1))
    + "".join(constant(f"w{n}", draw(CHANNELS, CHANNELS, seed=3 + i)) for i, n in enumerate("qkv"))
)
PACKED = (
    "a = MatMul (x, w) b = Add (a, wb) c = Reshape (b, five) d = Transpose <perm = [2, 0, 3, 1, 4]> (c) "
    "q = Gather <axis = 0> (d, zero) k = Gather <axis = 0> (d, one) v = Gather <axis = 0> (d, two) "
)
SEPARATE = "".join(
    f"{n}a = MatMul (x, w{n}) {n}b = Reshape ({n}a, heads) {n} = Transpose <perm = [0, 2, 1, 3]> ({n}b) " for n in "qkv"
)
SCALED_QUERIES = "qs = Mul (q, scale) kt = Transpose <perm = [0, 1, 3, 2]> (k) s = MatMul (qs, kt) "
SCALED_SCORES = "kt = Transpose <perm = [0, 1, 3, 2]> (k) p = MatMul (q, kt) s = Mul (p, scale) "
TURNED = "kt = Transpose <perm = [0, 1, 3, 2]> (k) "
SCORES = {
    "queries": SCALED_QUERIES,
    "queries_divided": TURNED + "qs = Div (q, root) s = MatMul (qs, kt) ",
    "keys": "ks = Mul (k, scale) kt = Transpose <perm = [0, 1, 3, 2]> (ks) s = MatMul (q, kt) ",
    "turned_keys": TURNED + "ks = Mul (kt, scale) s = MatMul (q, ks) ",
    "both_by_the_root": TURNED + "qs = Mul (q, halves) ks = Mul (kt, halves) s = MatMul (qs, ks) ",
    "scores": SCALED_SCORES,
    "scores_divided": TURNED + "p = MatMul (q, kt) s = Div (p, root) ",
    "unscaled": TURNED + "s = MatMul (q, kt) ",
    "scores_and_bias": SCALED_SCORES.replace("s =", "ps =") + "s = Add (ps, table) ",
}
WEIGHED = "m = Softmax <axis = -1> (s) o = MatMul (m, v) "
JOINED = "t = Transpose <perm = [0, 2, 1, 3]> (o) r = Reshape (t, rows) y = Relu (r)"


def count_permutes_of_rank_five(graph: Graph) -> int:
    nodes = (n for n in graph.model.graph if n.op_type == "Transpose")
    return sum(len(n.attributes["perm"].as_ints()) == 5 for n in nodes)


@pytest.mark.parametrize(("form", "products"), [("packed", 3), ("separate", 5)])
@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("projections", [PACKED, SEPARATE], ids=["packed", "separate"])
def test_fuse_attention_gives_one_form_with_equal_numbers(
    projections: str, scores: str, form: Form, products: int
) -> None:
    graph = parse(CONSTANTS + projections + SCORES[scores] + WEIGHED + JOINED, **IO)
    expected = run(graph, X)
    record = fuse_attention(graph, form)
    assert len(record.applied) == 1
    counts = graph.op_counts()
    assert (counts["MatMul"], counts["Softmax"], counts.get("Mul", 0)) == (products, 1, 0)
    assert "Div" not in counts
    assert count_permutes_of_rank_five(graph) == 0
    np.testing.assert_allclose(run(graph, X), expected, rtol=1e-5, atol=1e-6)


NEAR_MISSES = {
    "normalised_queries": SEPARATE + SCALED_QUERIES.replace("Mul (q, scale)", "LpNormalization (q)") + WEIGHED + JOINED,
    "another_axis": SEPARATE + SCALED_QUERIES + WEIGHED.replace("axis = -1", "axis = 2") + JOINED,
    "weights_squared": SEPARATE
    + SCALED_QUERIES
    + "n = Softmax <axis = -1> (s) m = Mul (n, n) o = MatMul (m, v) "
    + JOINED,
    "a_scale_for_each_head": SEPARATE + SCALED_SCORES.replace("(p, scale)", "(p, each_head)") + WEIGHED + JOINED,
    "scores_divide": SEPARATE + SCALED_SCORES.replace("Mul (p, scale)", "Div (scale, p)") + WEIGHED + JOINED,
    "a_computed_bias": SEPARATE
    + SCALED_SCORES.replace("s =", "ps =")
    + "rq = Relu (q) cb = MatMul (rq, kt) s = Add (ps, cb) "
    + WEIGHED
    + JOINED,
    "a_mask_by_choice": SEPARATE + TURNED + "p = MatMul (q, kt) s = Where (open, p, negative) " + WEIGHED + JOINED,
    "queries_of_other_tokens": SEPARATE.replace("MatMul (x, wq)", "MatMul (z, wq)") + SCALED_QUERIES + WEIGHED + JOINED,
    "probabilities_read_elsewhere": SEPARATE
    + SCALED_QUERIES
    + WEIGHED
    + JOINED.replace("Relu (r)", "Add (r, mean)").replace("y =", "mean = ReduceMean (m) y ="),
    "values_are_no_projection": SEPARATE + SCALED_QUERIES + WEIGHED.replace("(m, v)", "(m, m)") + "y = Relu (o)",
}


@pytest.mark.parametrize("near_miss", NEAR_MISSES)
def test_fuse_attention_leaves_near_misses_alone(near_miss: str) -> None:
    io = IO if near_miss != "values_are_no_projection" else IO | {"outputs": "float[a,b,c,d] y"}
    graph = parse(CONSTANTS + NEAR_MISSES[near_miss], **io)
    before = dict(graph.op_counts())
    assert fuse_attention(graph, "separate").applied == ()
    assert dict(graph.op_counts()) == before


def test_fuse_attention_packed_leaves_projections_of_different_values_and_says_why() -> None:
    graph = parse(
        CONSTANTS + SEPARATE.replace("MatMul (x, wv)", "MatMul (z, wv)") + SCALED_QUERIES + WEIGHED + JOINED, **IO
    )
    record = fuse_attention(graph, "packed")
    assert record.applied == ()
    assert len(record.skipped) == 1
    assert "not those of the same tokens" in record.skipped[0].reason


@pytest.mark.parametrize("form", ["packed", "separate"])
def test_fuse_attention_leaves_tokens_that_lie_ahead_of_the_batch_and_says_why(form: Form) -> None:
    """``(N, B, C)``, as torch's MultiheadAttention has it, where no value with the batch ahead is there to be read."""
    sides = constant("side", np.asarray([TOKENS, 2 * HEADS, WIDTH])) + "".join(
        f"{n}a = MatMul (x, w{n}) {n}b = Reshape ({n}a, side) {n} = Transpose <perm = [1, 0, 2]> ({n}b) " for n in "qkv"
    )
    scores = "qs = Mul (q, scale) kt = Transpose <perm = [0, 2, 1]> (k) s = MatMul (qs, kt) "
    graph = parse(
        CONSTANTS + sides + scores + WEIGHED + "y = Relu (o)", f"float[{TOKENS},2,{CHANNELS}] x", "float[a,b,c] y"
    )
    before = dict(graph.op_counts())
    record = fuse_attention(graph, form)
    assert record.applied == ()
    assert [skip.reason.split(": ")[-1] for skip in record.skipped] == [
        "tokens change places between projection and product"
    ]
    assert dict(graph.op_counts()) == before


def test_fuse_attention_leaves_a_result_that_is_an_output() -> None:
    graph = parse(
        CONSTANTS + SEPARATE + SCALED_QUERIES + WEIGHED.replace("o =", "y ="), **IO | {"outputs": "float[a,b,c,d] y"}
    )
    record = fuse_attention(graph, "separate")
    assert record.applied == ()
    assert "output of the graph" in record.skipped[0].reason
