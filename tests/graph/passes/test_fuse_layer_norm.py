"""A decomposed LayerNorm in its spellings, and what only looks like one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgevit.graph.passes.fuse_layer_norm import fuse_layer_norm
from tests.support.pass_graphs import constant, draw, parse, run

WIDTH = 6
GAIN, SHIFT = draw(WIDTH, seed=1), draw(WIDTH, seed=2)
CONSTANTS = (
    constant("g", GAIN)
    + constant("b", SHIFT)
    + "two = Constant <value = float {2.0}> () e = Constant <value = float {1e-5}> () "
    + "one = Constant <value = float {1.0}> () axes = Constant <value = int64[1] {-1}> () "
    + "both = Constant <value = int64[2] {1, 2}> () tiny = Constant <value = float {1e-12}> () "
)
MEAN = "m = ReduceMean (x, axes) d = Sub (x, m) "
IO: dict[str, Any] = {"inputs": f"float[2,4,{WIDTH}] x", "outputs": f"float[2,4,{WIDTH}] y"}
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
    "mean_of_squares": "m = ReduceMean (x, axes) xx = Mul (x, x) mx = ReduceMean (xx, axes) mm = Mul (m, m) "
    "v = Sub (mx, mm) a = Add (v, e) s = Sqrt (a) d = Sub (x, m) n = Div (d, s) ng = Mul (n, g) r = Add (ng, b)",
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
    "over_tokens_too": MEAN.replace("axes", "both") + "p = Pow (d, two) v = ReduceMean (p, both) a = Add (v, e) "
    "s = Sqrt (a) r = Div (d, s)",
    "mean_over_tokens_too": MEAN.replace("axes", "both") + "p = Pow (d, two) v = ReduceMean (p, axes) a = Add (v, e) "
    "s = Sqrt (a) r = Div (d, s)",
    "tiny_epsilon_behind_the_root": MEAN + "p = Pow (d, two) v = ReduceMean (p, axes) t = Sqrt (v) s = Add (t, tiny) "
    "r = Div (d, s)",
    "mean_of_something_else": "z = Relu (x) m = ReduceMean (z, axes) d = Sub (x, m) p = Pow (d, two) "
    "v = ReduceMean (p, axes) a = Add (v, e) s = Sqrt (a) r = Div (d, s)",
    "in_double": "xd = Cast <to = 11> (x) td = Cast <to = 11> (two) ed = Cast <to = 11> (e) m = ReduceMean (xd, axes) "
    "d = Sub (xd, m) p = Pow (d, td) v = ReduceMean (p, axes) a = Add (v, ed) s = Sqrt (a) n = Div (d, s) "
    "r = Cast <to = 1> (n)",
    "in_half": "xh = Cast <to = 10> (x) th = Cast <to = 10> (two) eh = Cast <to = 10> (e) m = ReduceMean (xh, axes) "
    "d = Sub (xh, m) p = Pow (d, th) v = ReduceMean (p, axes) a = Add (v, eh) s = Sqrt (a) n = Div (d, s) "
    "r = Cast <to = 1> (n)",
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
    wanted = "mean and root are not those of a LayerNorm over the last axis"
    if near_miss in ("in_double", "in_half"):
        wanted = f"it does not compute in float32 but in {'double' if near_miss == 'in_double' else 'float16'}"
    assert {skip.reason for skip in record.skipped} == {wanted}
    assert dict(graph.op_counts()) == before


ROUNDED = {"whole_numbers": 7, "half": 10}


@pytest.mark.parametrize("kind", ROUNDED)
def test_fuse_layer_norm_stops_where_its_result_is_rounded(kind: str) -> None:
    body = SPELLINGS["pow_div"] + f" i = Cast <to = {ROUNDED[kind]}> (r) f = Cast <to = 1> (i) y = Relu (f)"
    graph = parse(CONSTANTS + body, **IO)
    expected = run(graph, X)
    assert len(fuse_layer_norm(graph).applied) == 1
    assert dict(graph.op_counts()) == {"Cast": 2, "LayerNormalization": 1, "Relu": 1}
    np.testing.assert_allclose(run(graph, X), expected, atol=2e-3)


@pytest.mark.parametrize("inner", ["m", "d", "v", "s", "n"])
def test_fuse_layer_norm_leaves_one_whose_inner_value_is_read_elsewhere(inner: str) -> None:
    graph = parse(CONSTANTS + SPELLINGS["without_affine"].replace("r = Div", "n = Div") + f"z = Sin ({inner}) "
                  "ng = Mul (n, g) nb = Add (ng, b) r = Add (nb, z) y = Relu (r)", **IO)  # fmt: skip
    before, expected = dict(graph.op_counts()), run(graph, X)
    record = fuse_layer_norm(graph)
    if inner == "n":  # what reads it reads a whole LayerNorm without its affine part
        assert len(record.applied) == 1
        assert (graph.op_counts()["LayerNormalization"], "ReduceMean" in graph.op_counts()) == (1, False)
    else:
        assert record.applied == ()
        assert {skip.reason for skip in record.skipped} == {"something else reads a value inside it"}
        assert dict(graph.op_counts()) == before
    np.testing.assert_allclose(run(graph, X), expected, rtol=1e-5, atol=1e-6)


def test_fuse_layer_norm_gives_two_affine_parts_one_norm() -> None:
    body = SPELLINGS["pow_div"] + "ng2 = Mul (n, b) r2 = Add (ng2, g) w = Mul (r, r2) y = Relu (w)"
    graph = parse(CONSTANTS + body, **IO)
    expected = run(graph, X)
    assert len(fuse_layer_norm(graph).applied) == 1
    assert dict(graph.op_counts()) == {"Add": 2, "LayerNormalization": 1, "Mul": 3, "Relu": 1}
    np.testing.assert_allclose(run(graph, X), expected, rtol=1e-5, atol=1e-6)


def test_fuse_layer_norm_does_not_look_at_the_mean_of_pooling() -> None:
    body = "axes = Constant <value = int64[1] {1}> () m = ReduceMean <keepdims = 0> (x, axes) y = Relu (m)"
    graph = parse(body, **IO)
    record = fuse_layer_norm(graph)
    assert (record.applied, record.skipped) == ((), ())
