"""Graphs of a fixed number of images, restated for another number and for any."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgevit.graph.graph import Graph
from edgevit.graph.patterns.pieces import MismatchError
from edgevit.graph.set_batch import open_batch, set_batch
from tests.support.pass_graphs import constant, draw, parse, run


def restate(body: str, old: str = "float[4,6] x", new: int = 1) -> Graph:
    graph = parse(body, inputs=old)
    set_batch(graph, 4, new)
    return graph


def test_constant_that_is_repeated_for_every_image_is_stated_for_the_new_ones() -> None:
    row = np.arange(6, dtype=np.float32)
    graph = restate(constant("c", np.tile(row, (4, 1))) + "y = Add (x, c)", new=3)
    x = draw(3, 6)
    np.testing.assert_array_equal(run(graph, {"x": x}), x + row)


def test_batch_that_was_merged_with_windows_is_found_behind_them() -> None:
    body = (
        constant("apart", np.asarray([4, 2, 3])) + constant("merged", np.asarray([3, 8]))
        + constant("back", np.asarray([3, 4, 2])) + constant("flat", np.asarray([4, 6]))
        + "a = Reshape (x, apart) b = Transpose <perm = [2, 0, 1]> (a) c = Reshape (b, merged) d = Relu (c)"
        " e = Reshape (d, back) f = Transpose <perm = [1, 2, 0]> (e) y = Reshape (f, flat)"
    )  # fmt: skip
    graph = restate(body, new=2)
    x = draw(2, 6)
    np.testing.assert_array_equal(run(graph, {"x": x}), np.maximum(x, 0))


@pytest.mark.parametrize("batch", [1, 3, 4, 7])
def test_gather_over_a_flattened_batch_takes_the_same_entries_of_every_image(batch: int) -> None:
    """Twice a row of columns in another order, with the batch between: (2, 4, 3) entries of (4, 6) as (4, 2, 3)."""
    entries = np.arange(4).reshape(1, 4, 1) * 6 + np.asarray([[5, 1, 0], [2, 2, 4]]).reshape(2, 1, 3)
    flat = constant("flat", np.asarray([24]))
    graph = restate(
        f"{flat} f = Reshape (x, flat) " + constant("i", entries - 24) + "g = Gather <axis = 0> (f, i) "
        "t = Transpose <perm = [1, 0, 2]> (g) " + constant("rows", np.asarray([4, 6])) + "y = Reshape (t, rows)",
        new=batch,
    )  # fmt: skip
    x = draw(batch, 6)
    np.testing.assert_array_equal(run(graph, {"x": x}), x[:, [5, 1, 0, 2, 2, 4]])


def test_gather_between_outer_and_inner_entries_is_restated() -> None:
    """(3, 4·2) entries by columns, of which the first and the last of three are taken."""
    taken = np.asarray([0, 2]).reshape(2, 1, 1) * 8 + np.arange(4).reshape(1, 4, 1) * 2 + np.asarray([1, 0])
    body = (
        constant("apart", np.asarray([4, 3, 2])) + constant("flat", np.asarray([24])) + constant("i", taken)
        + constant("rows", np.asarray([4, 4]))
        + "a = Reshape (x, apart) b = Transpose <perm = [1, 0, 2]> (a) c = Reshape (b, flat)"
        " g = Gather <axis = 0> (c, i) d = Transpose <perm = [1, 0, 2]> (g) y = Reshape (d, rows)"
    )  # fmt: skip
    x = draw(2, 6)
    np.testing.assert_array_equal(run(restate(body, new=2), {"x": x}), x[:, [1, 0, 5, 4]])


MIXED = {
    "mean": constant("zero", np.asarray([0])) + "m = ReduceMean (x, zero) y = Sub (x, m)",
    "softmax": "y = Softmax <axis = 0> (x)",
    "own constant": constant("c", np.arange(24, dtype=np.float32).reshape(4, 6)) + "y = Add (x, c)",
    "one image": constant("i", np.asarray([0])) + "a = Gather <axis = 0> (x, i) y = Add (x, a)",
    "strides of another image": constant("f", np.asarray([24]))
    + constant("i", np.roll(np.arange(24).reshape(4, 6), 1, axis=0)) + "r = Reshape (x, f) "
    "y = Gather <axis = 0> (r, i)",
    "strides of its own": constant("f", np.asarray([24]))
    + constant("i", np.arange(4)[:, None] * 6 + np.asarray([[0], [0], [1], [0]])) + "r = Reshape (x, f) "
    "y = Gather <axis = 0> (r, i)",
    "turned": constant("s", np.asarray([3])) + constant("e", np.asarray([-9])) + constant("a", np.asarray([0]))
    + constant("t", np.asarray([-1])) + "y = Slice (x, s, e, a, t)",
    "product": "t = Transpose <perm = [1, 0]> (x) p = MatMul (x, t) y = MatMul (p, x)",
    "split batch": constant("s", np.asarray([2, 12])) + constant("f", np.asarray([4, 6]))
    + "r = Reshape (x, s) y = Reshape (r, f)",
    "unknown": constant("k", np.asarray([1])) + "y = CumSum (x, k)",
}  # fmt: skip


@pytest.mark.parametrize("case", MIXED)
@pytest.mark.parametrize("new", [1, None])
def test_graph_that_mixes_images_is_left_as_it_was(case: str, new: int | None) -> None:
    graph = parse(MIXED[case], inputs="float[4,6] x")
    before = ir.serde.serialize_model(graph.model).SerializeToString()
    with pytest.raises(MismatchError):
        open_batch(graph, 4) if new is None else set_batch(graph, 4, new)
    assert ir.serde.serialize_model(graph.model).SerializeToString() == before


ROWS = np.arange(6, dtype=np.float32)
WINDOWS = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
SHAPE = {
    "apart": np.asarray([4, 2, 3]),
    "windows": np.asarray([8, 1, 3]),
    "flat": np.asarray([4, 6]),
    "long": np.asarray([24]),
    "map": np.asarray([4, 1, 2, 3]),
    "tokens": np.asarray([12, 2]),
}
_S = {name: constant(name, shape) for name, shape in SHAPE.items()}
OPEN = {
    "constant of every image": constant("c", np.tile(ROWS, (4, 1))) + "y = Add (x, c)",
    "constant of every window": _S["windows"] + _S["flat"] + constant("c", np.tile(WINDOWS, (4, 1, 1)))
    + "w = Reshape (x, windows) a = Add (w, c) " + constant("f", np.asarray([4, 12])) + "y = Reshape (a, f)",
    "constant in front of every image": constant("c", np.tile(ROWS[:2], (4, 1))) + "y = Concat <axis = 1> (c, x)",
    "constant in front of every window": _S["windows"] + constant("c", np.tile(WINDOWS[:, :1], (4, 1, 1)))
    + "w = Reshape (x, windows) a = Concat <axis = 1> (c, w) " + constant("f", np.asarray([4, 12]))
    + "y = Reshape (a, f)",
    "products with a constant of every head": constant("heads", np.asarray([8, 3, 1]))
    + constant("c", np.tile(WINDOWS, (4, 1, 1))) + "h = Reshape (x, heads) p = MatMul (c, h) "
    + constant("f", np.asarray([4, 4])) + "y = Reshape (p, f)",
    "entries of every image": _S["long"] + constant("i", (np.arange(4)[:, None] * 6 + [5, 1, 1]).reshape(-1))
    + "a = Reshape (x, long) g = Gather <axis = 0> (a, i) " + constant("f", np.asarray([4, 3])) + "y = Reshape (g, f)",
    "entries between the images": _S["long"] + constant("i", (np.asarray([[5], [0]]) + np.arange(4) * 6).reshape(-1))
    + "a = Reshape (x, long) g = Gather <axis = 0> (a, i) " + constant("f", np.asarray([2, 4]))
    + "r = Reshape (g, f) y = Transpose <perm = [1, 0]> (r)",
    "entries in front of the images": constant("i", np.asarray([[[4], [0]], [[1], [1]]]))
    + "t = Transpose <perm = [1, 0]> (x) g = GatherND (t, i) a = Transpose <perm = [2, 0, 1]> (g) "
    + constant("f", np.asarray([4, 4])) + "y = Reshape (a, f)",
    "an Expand": constant("one", np.asarray([1])) + constant("s", np.asarray([4, 3, 6]))
    + "u = Unsqueeze (x, one) e = Expand (u, s) " + constant("f", np.asarray([4, 18])) + "y = Reshape (e, f)",
    "a Resize by sizes": _S["map"] + constant("s", np.asarray([4, 1, 5, 7]))
    + 'm = Reshape (x, map) r = Resize <mode = "linear"> (m, , , s) ' + constant("f", np.asarray([4, 35]))
    + "y = Reshape (r, f)",
    "a Resize by scales": _S["map"] + constant("s", np.asarray([1, 1, 2, 3], np.float32))
    + 'm = Reshape (x, map) r = Resize <mode = "linear"> (m, , s) ' + constant("f", np.asarray([4, 36]))
    + "y = Reshape (r, f)",
    "an Einsum with a constant of every image": _S["apart"] + constant("c", np.tile(WINDOWS[:1], (4, 1, 1)))
    + 'a = Reshape (x, apart) e = Einsum <equation = "bqc,bkc->bqk"> (c, a) ' + constant("f", np.asarray([4, 4]))
    + "y = Reshape (e, f)",
    "an Einsum with one constant for all images": _S["apart"] + constant("c", WINDOWS[:1])
    + 'a = Reshape (x, apart) e = Einsum <equation = "...qc,...kc->...qk"> (c, a) ' + constant("f", np.asarray([4, 4]))
    + "y = Reshape (e, f)",
    "a grid of every image": _S["map"] + constant("c", np.tile(draw(1, 2, 2, 2, seed=1) / 3, (4, 1, 1, 1)))
    + "m = Reshape (x, map) g = GridSample (m, c) " + constant("f", np.asarray([4, 4])) + "y = Reshape (g, f)",
    "the largest of every image": constant("k", np.asarray([2]))
    + "v, i = TopK (x, k) y = GatherElements <axis = 1> (x, i)",
    "a normalised map": _S["map"] + constant("s", np.asarray([2.0], np.float32)) + _S["flat"]
    + constant("b", np.asarray([0.5], np.float32))
    + "m = Reshape (x, map) n = InstanceNormalization (m, s, b) y = Reshape (n, flat)",
    "Q/DQ pairs": constant("s", np.arange(1, 7, dtype=np.float32) / 50)
    + "z = Constant <value = int8[6] {0,0,0,1,0,0}> () "
    "q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z)",
    "a mask that is written": constant("zero", np.asarray([0], np.float32)) + "g = Greater (x, zero) "
    + "c = Constant <value = bool[4,8] {" + ",".join(["1,1,0,0,0,0,0,1"] * 4) + "}> () "
    + constant("i", np.stack(np.broadcast_arrays(np.arange(4)[:, None], [1, 2, 3, 4, 5, 0]), -1))
    + "w = ScatterND (c, i, g) y = Cast <to = 1> (w)",
}  # fmt: skip


@pytest.mark.parametrize("case", OPEN)
def test_open_graph_answers_any_number_of_images_as_the_fixed_one_does(case: str) -> None:
    fixed = parse(OPEN[case], inputs="float[4,6] x")
    graph = fixed.copy()
    open_batch(graph, 4)
    output = graph.model.graph.outputs[0]
    assert output.shape is not None
    assert str(output.shape[0]) == "batch"
    x = draw(8, 6)
    expected = np.concatenate([run(fixed, {"x": x[:4]}), run(fixed, {"x": x[4:]})])
    for count in (1, 4, 7):
        np.testing.assert_allclose(run(graph, {"x": x[:count]}), expected[:count], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("new", [1, 3])
@pytest.mark.parametrize("case", [case for case in OPEN if case != "a mask that is written"])
def test_graph_for_another_number_of_images_answers_as_before(case: str, new: int) -> None:
    fixed = parse(OPEN[case], inputs="float[4,6] x")
    graph = fixed.copy()
    set_batch(graph, 4, new)
    x = draw(4, 6)
    np.testing.assert_allclose(run(graph, {"x": x[:new]}), run(fixed, {"x": x})[:new], rtol=1e-6, atol=1e-6)


OPEN_MIXED = {
    "constants in front of and behind the images": constant("a", np.asarray([4, 2, 3])) + "r = Reshape (x, a) "
    "t = Transpose <perm = [1, 0, 2]> (r) " + constant("m", np.asarray([8, 3]))
    + "w = Reshape (t, m) " + constant("c", np.repeat(np.arange(6, dtype=np.float32).reshape(2, 3), 4, 0))
    + "s = Add (w, c) " + constant("b", np.asarray([2, 4, 3])) + "v = Reshape (s, b) "
    "u = Transpose <perm = [1, 0, 2]> (v) " + constant("f", np.asarray([4, 6])) + "y = Reshape (u, f)",
    "entries with axes": constant("long", np.asarray([24])) + "r = Reshape (x, long) "
    + constant("i", np.arange(24).reshape(4, 6)[:, ::-1].copy()) + "y = Gather <axis = 0> (r, i)",
}  # fmt: skip


@pytest.mark.parametrize("case", OPEN_MIXED)
def test_graph_whose_images_can_be_followed_but_not_opened_is_left_as_it_was(case: str) -> None:
    graph = parse(OPEN_MIXED[case], inputs="float[4,6] x")
    before = ir.serde.serialize_model(graph.model).SerializeToString()
    with pytest.raises(MismatchError):
        open_batch(graph, 4)
    assert ir.serde.serialize_model(graph.model).SerializeToString() == before
    set_batch(graph, 4, 2)
    x = draw(2, 6)
    expected = run(parse(OPEN_MIXED[case], inputs="float[4,6] x"), {"x": np.tile(x, (2, 1))})[:2]
    np.testing.assert_array_equal(run(graph, {"x": x}), expected)
