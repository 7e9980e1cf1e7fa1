"""GELU by its error function and by tanh, in several orders; and functions that are close to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgevit.graph.passes.fuse_gelu import fuse_gelu
from tests.support.pass_graphs import constant, draw, parse, run

NUMBERS = {
    "half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "root2": 1.4142135381698608, "inv": 0.7071067690849304,
    "c": 0.044715, "k": 0.7978845834732056, "q": 1.702, "off": 0.0447, "k2": 1.5957691669464111, "root": 1.414,
}  # fmt: skip
CONSTANTS = "".join(f"{name} = Constant <value = float {{{value}}}> () " for name, value in NUMBERS.items())
CONSTANTS += constant(
    "column", np.full((64,), 1.4142135, np.float32) * np.where(np.arange(64) == 63, 1.1, 1).astype("f")
)
CONSTANTS += constant("flat", np.full((1, 1), NUMBERS["root2"], np.float32))
CONSTANTS += constant("deep", np.full((1, 1, 1), NUMBERS["root2"], np.float32))
IO: dict[str, Any] = {"inputs": "float[4,64] x", "outputs": "float[4,64] y"}
X = {"x": 3 * draw(4, 64)}
TANH = "p = Pow (x, three) m = Mul (p, c) a = Add (x, m) n = Mul (a, k) t = Tanh (n) o = Add (t, one) "
SPELLINGS = {
    "torch": ("d = Div (x, root2) f = Erf (d) o = Add (f, one) m = Mul (x, o) r = Mul (m, half)", "none"),
    "half_first": ("h = Mul (half, x) d = Mul (x, inv) f = Erf (d) o = Add (one, f) r = Mul (h, o)", "none"),
    "half_inside": ("d = Div (x, root2) f = Erf (d) o = Add (f, one) h = Mul (o, half) r = Mul (h, x)", "none"),
    "constants_of_rank_two": (
        "d = Div (x, flat) f = Erf (d) o = Add (f, one) m = Mul (x, o) r = Mul (m, half)",
        "none",
    ),
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
    "root_of_two_rounded": "d = Div (x, root) f = Erf (d) o = Add (f, one) m = Mul (x, o) r = Mul (m, half)",
    "another_root_for_one_channel": "d = Div (x, column) f = Erf (d) o = Add (f, one) m = Mul (x, o) r = Mul (m, half)",
    "result_of_another_rank": "d = Div (x, deep) f = Erf (d) o = Add (f, one) m = Mul (x, o) r = Mul (m, half)",
    "an_output": "d = Div (x, root2) f = Erf (d) o = Add (f, one) m = Mul (x, o) y = Mul (m, half)",
    "hyperbolic_tangent": "t = Tanh (x) r = Mul (t, half)",
    "two_inputs": "d = Div (x, root2) f = Erf (d) o = Add (f, one) z = Relu (x) m = Mul (z, o) r = Mul (m, half)",
}


@pytest.mark.parametrize("near_miss", NEAR_MISSES)
def test_fuse_gelu_leaves_near_misses_alone_and_says_why(near_miss: str) -> None:
    body, io = NEAR_MISSES[near_miss], IO
    body += "" if near_miss == "an_output" else " y = Relu (r)"
    if near_miss == "result_of_another_rank":
        io = IO | {"outputs": "float[1,4,64] y"}
    graph = parse(CONSTANTS + body, **io)
    before = dict(graph.op_counts())
    record = fuse_gelu(graph)
    assert record.applied == ()
    assert len(record.skipped) == 1
    assert "is not a GELU" in record.skipped[0].reason
    assert dict(graph.op_counts()) == before


@pytest.mark.parametrize("inner", ["d", "f", "o", "m"])
def test_fuse_gelu_leaves_one_whose_inner_value_is_read_elsewhere(inner: str) -> None:
    graph = parse(CONSTANTS + SPELLINGS["torch"][0] + f" z = Sin ({inner}) w = Add (r, z) y = Relu (w)", **IO)
    before = dict(graph.op_counts())
    record = fuse_gelu(graph)
    assert record.applied == ()
    assert [skip.reason for skip in record.skipped] == ["something else reads a value inside this GELU"]
    assert dict(graph.op_counts()) == before


def test_fuse_gelu_leaves_a_sigmoid_linear_unit_as_it_is() -> None:
    graph = parse(CONSTANTS + "m = Mul (x, q) s = Sigmoid (m) r = Mul (x, s) y = Relu (r)", **IO)
    before = dict(graph.op_counts())
    record = fuse_gelu(graph)
    assert (record.applied, record.skipped) == ((), ())
    assert dict(graph.op_counts()) == before
