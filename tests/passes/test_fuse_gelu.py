"""GELU by its error function and by tanh, in several orders; and functions that are close to it."""

from __future__ import annotations

import numpy as np
import pytest

from edgevit.passes.fuse_gelu import fuse_gelu
from tests.passes.graphs import draw, parse, run

NUMBERS = {
    "half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "root2": 1.4142135381698608, "inv": 0.7071067690849304,
    "c": 0.044715, "k": 0.7978845834732056, "q": 1.702, "off": 0.0447, "k2": 1.5957691669464111,
}  # fmt: skip
CONSTANTS = "".join(f"{name} = Constant <value = float {{{value}}}> () " for name, value in NUMBERS.items())
IO = {"inputs": "float[4,64] x", "outputs": "float[4,64] y"}
X = {"x": 3 * draw(4, 64)}
TANH = "p = Pow (x, three) m = Mul (p, c) a = Add (x, m) n = Mul (a, k) t = Tanh (n) o = Add (t, one) "
SPELLINGS = {
    "torch": ("d = Div (x, root2) f = Erf (d) o = Add (f, one) m = Mul (x, o) r = Mul (m, half)", "none"),
    "half_first": ("h = Mul (half, x) d = Mul (x, inv) f = Erf (d) o = Add (one, f) r = Mul (h, o)", "none"),
    "half_inside": ("d = Div (x, root2) f = Erf (d) o = Add (f, one) h = Mul (o, half) r = Mul (h, x)", "none"),
    "tanh": (TANH + "h = Mul (x, half) r = Mul (h, o)", "tanh"),
    "tanh_by_products": (
        "s = Mul (x, x) p = Mul (s, x) m = Mul (c, p) a = Add (x, m) n = Mul (k, a) t = Tanh (n) o = Add (one, t) "
        "m2 = Mul (x, o) r = Mul (half, m2)",
        "tanh",
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_fuse_gelu_leaves_one_node_with_equal_numbers(spelling: str) -> None:
    body, approximate = SPELLINGS[spelling]
    graph = parse(CONSTANTS + body + " y = Relu (r)", **IO)
    expected = run(graph, X)
    record = fuse_gelu(graph)
    assert len(record.applied) == 1
    assert dict(graph.op_counts()) == {"Gelu": 1, "Relu": 1}
    node = next(n for n in graph.model.graph if n.op_type == "Gelu")
    assert node.attributes["approximate"].as_string() == approximate
    np.testing.assert_allclose(run(graph, X), expected, rtol=1e-5, atol=2e-6)


NEAR_MISSES = {
    "error_function_alone": "d = Div (x, root2) f = Erf (d) r = Mul (f, half)",
    "without_half": "d = Div (x, root2) f = Erf (d) o = Add (f, one) r = Mul (x, o)",
    "argument_not_scaled": "f = Erf (x) o = Add (f, one) m = Mul (x, o) r = Mul (m, half)",
    "rounded_coefficient": TANH.replace("c)", "off)") + "h = Mul (x, half) r = Mul (h, o)",
    "hyperbolic_tangent": "t = Tanh (x) r = Mul (t, half)",
    "two_inputs": "d = Div (x, root2) f = Erf (d) o = Add (f, one) z = Relu (x) m = Mul (z, o) r = Mul (m, half)",
}


@pytest.mark.parametrize("near_miss", NEAR_MISSES)
def test_fuse_gelu_leaves_near_misses_alone_and_says_why(near_miss: str) -> None:
    graph = parse(CONSTANTS + NEAR_MISSES[near_miss] + " y = Relu (r)", **IO)
    before = dict(graph.op_counts())
    record = fuse_gelu(graph)
    assert record.applied == ()
    assert len(record.skipped) == 1
    assert "is not a GELU" in record.skipped[0].reason
    assert dict(graph.op_counts()) == before
