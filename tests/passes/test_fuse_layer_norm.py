"""A decomposed LayerNorm in its spellings, and what only looks like one."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.passes.fuse_layer_norm import fuse_layer_norm
from tests.passes.graphs import constant, draw, parse, run

WIDTH = 6
GAIN, SHIFT = draw(WIDTH, seed=1), draw(WIDTH, seed=2)
CONSTANTS = (
    constant("g", GAIN)
    + constant("b", SHIFT)
    + "two = Constant <value = float {2.0}> () e = Constant <value = float {1e-5}> () "
    + "one = Constant <value = float {1.0}> () axes = Constant <value = int64[1] {-1}> () "
)
MEAN = "m = ReduceMean (x, axes) d = Sub (x, m) "
IO = {"inputs": f"float[2,4,{WIDTH}] x", "outputs": f"float[2,4,{WIDTH}] y"}
X = {"x": 3 * draw(2, 4, WIDTH) + 1}

SPELLINGS = {
    "pow_div": MEAN + "p = Pow (d, two) v = ReduceMean (p, axes) a = Add (v, e) s = Sqrt (a) n = Div (d, s) "
    "ng = Mul (n, g) r = Add (ng, b)",
    "square_reciprocal": MEAN + "p = Mul (d, d) v = ReduceMean (p, axes) a = Add (e, v) s = Sqrt (a) i = Div (one, s) "
    "n = Mul (d, i) ng = Mul (g, n) r = Add (b, ng)",
    "gain_ahead_of_division": MEAN + "p = Mul (d, d) v = ReduceMean (p, axes) a = Add (v, e) s = Sqrt (a) "
    "dg = Mul (d, g) n = Div (dg, s) r = Add (n, b)",
    "tensorflow": "m = ReduceMean (x, axes) d = Sub (x, m) p = Mul (d, d) v = ReduceMean (p, axes) a = Add (v, e) "
    "s = Sqrt (a) i = Reciprocal (s) ig = Mul (i, g) xi = Mul (x, ig) mi = Mul (m, ig) o = Sub (b, mi) r = Add (xi, o)",
    "without_affine": MEAN + "p = Pow (d, two) v = ReduceMean (p, axes) a = Add (v, e) s = Sqrt (a) r = Div (d, s)",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_fuse_layer_norm_leaves_one_node_with_equal_numbers(spelling: str) -> None:
    graph = parse(CONSTANTS + SPELLINGS[spelling] + " y = Relu (r)", **IO)
    expected = run(graph, X)
    record = fuse_layer_norm(graph)
    assert len(record.applied) == 1
    assert dict(graph.op_counts()) == {"LayerNormalization": 1, "Relu": 1}
    node = next(n for n in graph.model.graph if n.op_type == "LayerNormalization")
    assert node.attributes["epsilon"].as_float() == pytest.approx(1e-5)
    np.testing.assert_allclose(run(graph, X), expected, rtol=1e-5, atol=1e-6)


NEAR_MISSES = {
    "another_axis": MEAN.replace("axes", "other") + "p = Pow (d, two) v = ReduceMean (p, other) a = Add (v, e) "
    "s = Sqrt (a) r = Div (d, s)",
    "root_mean_square": "p = Pow (x, two) v = ReduceMean (p, axes) a = Add (v, e) s = Sqrt (a) r = Div (x, s)",
    "epsilon_behind_the_root": MEAN + "p = Pow (d, two) v = ReduceMean (p, axes) t = Sqrt (v) s = Add (t, e) "
    "r = Div (d, s)",
    "unbiased_variance": MEAN + "p = Pow (d, two) w = ReduceMean (p, axes) v = Mul (w, f) a = Add (v, e) s = Sqrt (a) "
    "r = Div (d, s)",
    "gain_of_a_row": MEAN + "p = Pow (d, two) v = ReduceMean (p, axes) a = Add (v, e) s = Sqrt (a) c = Pow (s, two) "
    "r = Div (d, c)",
}


@pytest.mark.parametrize("near_miss", NEAR_MISSES)
def test_fuse_layer_norm_leaves_near_misses_alone_and_says_why(near_miss: str) -> None:
    extra = f"other = Constant <value = int64[1] {{1}}> () f = Constant <value = float {{{WIDTH / (WIDTH - 1)}}}> () "
    graph = parse(CONSTANTS + extra + NEAR_MISSES[near_miss] + " y = Relu (r)", **IO)
    before = dict(graph.op_counts())
    record = fuse_layer_norm(graph)
    assert record.applied == ()
    assert {skip.reason for skip in record.skipped} == {"mean and root are not those of a LayerNorm over the last axis"}
    assert dict(graph.op_counts()) == before


def test_fuse_layer_norm_does_not_look_at_the_mean_of_pooling() -> None:
    body = "axes = Constant <value = int64[1] {1}> () m = ReduceMean <keepdims = 0> (x, axes) y = Relu (m)"
    graph = parse(body, **IO)
    record = fuse_layer_norm(graph)
    assert (record.applied, record.skipped) == ((), ())
