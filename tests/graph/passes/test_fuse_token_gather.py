"""Movements of whole tokens: Swin's shift and partition, its way back, merging and padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgevit.graph.passes.fuse_token_gather import fuse_token_gather
from tests.support.pass_graphs import constant, draw, parse, run

ROLL = (
    "z = Constant <value = int64[1] {0}> () s = Constant <value = int64[1] {1}> () "
    "e = Constant <value = int64[1] {99}> () ax1 = Constant <value = int64[1] {1}> () "
    "ax2 = Constant <value = int64[1] {2}> () "
    "a = Slice (x, s, e, ax1) b = Slice (x, z, s, ax1) c = Concat <axis = 1> (a, b) "
    "d = Slice (c, s, e, ax2) f = Slice (c, z, s, ax2) rolled = Concat <axis = 2> (d, f) "
)
SPLIT = constant("six", np.asarray([2, 2, 2, 2, 2, 3])) + constant("three", np.asarray([8, 4, 3]))
PARTITION = "p = Reshape ({}, six) q = Transpose <perm = [0, 1, 3, 2, 4, 5]> (p) w = Reshape (q, three) y = Relu (w)"
IO: dict[str, Any] = {"inputs": "float[2,4,4,3] x", "outputs": "float[a,b,c] y"}
X = {"x": draw(2, 4, 4, 3)}


def test_shift_and_partition_become_one_gather_as_torch_rolls() -> None:
    graph = parse(ROLL + SPLIT + PARTITION.format("rolled"), **IO)
    record = fuse_token_gather(graph)
    assert len(record.applied) == 1
    assert dict(graph.op_counts()) == {"Gather": 1, "Relu": 1, "Reshape": 2}
    rolled = torch.roll(torch.from_numpy(X["x"]), (-1, -1), (1, 2)).reshape(2, 2, 2, 2, 2, 3)
    expected = rolled.permute(0, 1, 3, 2, 4, 5).reshape(8, 4, 3).relu()
    np.testing.assert_array_equal(run(graph, X), expected.numpy())


def test_partition_alone_is_a_permute_of_rank_six_and_becomes_a_gather() -> None:
    graph = parse(SPLIT + PARTITION.format("x"), **IO)
    expected = run(graph, X)
    assert len(fuse_token_gather(graph).applied) == 1
    assert "Transpose" not in graph.op_counts()
    np.testing.assert_array_equal(run(graph, X), expected)


def test_padding_becomes_a_row_of_zeros() -> None:
    body = (
        "pads = Constant <value = int64[8] {0, 0, 0, 0, 0, 2, 2, 0}> () r = Pad (x, pads) "
        + constant("six", np.asarray([2, 3, 2, 3, 2, 3]))
        + constant("three", np.asarray([18, 4, 3]))
        + PARTITION.format("r")
    )
    graph = parse(body, **IO)
    expected = run(graph, X)
    assert len(fuse_token_gather(graph).applied) == 1
    assert dict(graph.op_counts()) == {"Concat": 1, "Gather": 1, "Relu": 1, "Reshape": 2}
    np.testing.assert_array_equal(run(graph, X), expected)


@pytest.mark.parametrize("how", ["with_ones", "by_reflection", "by_the_edge"])
def test_padding_with_anything_but_zeros_stays_in_front_of_the_gather(how: str) -> None:
    body = "pads = Constant <value = int64[8] {0, 0, 0, 0, 0, 2, 2, 0}> () one = Constant <value = float {1.0}> () "
    body += {
        "with_ones": "r = Pad (x, pads, one) ",
        "by_reflection": 'r = Pad <mode = "reflect"> (x, pads) ',
        "by_the_edge": 'r = Pad <mode = "edge"> (x, pads) ',
    }[how]
    body += constant("six", np.asarray([2, 3, 2, 3, 2, 3])) + constant("three", np.asarray([18, 4, 3]))
    graph = parse(body + PARTITION.format("r"), **IO)
    expected = run(graph, X)
    assert len(fuse_token_gather(graph).applied) == 1
    assert dict(graph.op_counts()) == {"Gather": 1, "Pad": 1, "Relu": 1, "Reshape": 2}
    np.testing.assert_array_equal(run(graph, X), expected)


def test_shift_that_is_read_elsewhere_is_a_gather_of_its_own() -> None:
    end = PARTITION.format("rolled").replace("y = Relu (w)", "mean = ReduceMean (rolled) y = Add (w, mean)")
    graph = parse(ROLL + SPLIT + end, **IO)
    expected = run(graph, X)
    assert len(fuse_token_gather(graph).applied) == 2
    assert dict(graph.op_counts()) == {"Add": 1, "Gather": 2, "ReduceMean": 1, "Reshape": 4}
    np.testing.assert_allclose(run(graph, X), expected, rtol=1e-6)


def test_merging_of_four_neighbours_becomes_one_gather() -> None:
    body = "zero = Constant <value = int64[2] {0, 0}> () ax = Constant <value = int64[2] {1, 2}> () " + "".join(
        f"s{i} = Constant <value = int64[2] {{{i % 2}, {i // 2}}}> () "
        f"e{i} = Constant <value = int64[2] {{99, 99}}> () "
        f"t{i} = Constant <value = int64[2] {{2, 2}}> () m{i} = Slice (x, s{i}, e{i}, ax, t{i}) "
        for i in range(4)
    )
    graph = parse(body + "w = Concat <axis = 3> (m0, m1, m2, m3) y = Relu (w)", "float[2,4,4,3] x", "float[a,b,c,d] y")
    expected = run(graph, X)
    assert len(fuse_token_gather(graph).applied) == 1
    assert dict(graph.op_counts()) == {"Gather": 1, "Relu": 1, "Reshape": 2}
    np.testing.assert_array_equal(run(graph, X), expected)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("t = Transpose <perm = [0, 3, 1, 2]> (x) y = Relu (t)", None),
        (
            ROLL + "t = Transpose <perm = [0, 3, 1, 2]> (rolled) y = Relu (t)",
            "its rows are not whole tokens of what it reads",
        ),
        (
            ROLL.replace("ax2 = Constant <value = int64[1] {2}>", "ax2 = Constant <value = int64[1] {3}>").replace(
                "axis = 2", "axis = 3"
            )
            + "y = Relu (rolled)",
            "channels of a token change places",
        ),
        (ROLL + "one = Constant <value = float {1.0}> () t = Add (rolled, one) y = Relu (t)", None),
    ],
    ids=["one_operator", "channels_move", "channels_are_rolled", "computed_between"],
)
def test_near_misses_are_left_alone(body: str, reason: str | None) -> None:
    graph = parse(body, "float[2,4,4,3] x", "float[a,b,c,d] y")
    before = dict(graph.op_counts())
    expected = run(graph, X)
    record = fuse_token_gather(graph)
    if reason is not None:
        assert record.applied == ()
        assert [skip.reason for skip in record.skipped] == [reason]
        assert dict(graph.op_counts()) == before
    np.testing.assert_array_equal(run(graph, X), expected)


def test_permutes_of_heads_are_no_missed_place() -> None:
    body = constant("four", np.asarray([2, 16, 1, 3])) + (
        "r = Reshape (x, four) h = Transpose <perm = [0, 2, 1, 3]> (r) "
        "t = Transpose <perm = [0, 1, 3, 2]> (h) y = Relu (t)"
    )
    record = fuse_token_gather(parse(body, "float[2,4,4,3] x", "float[a,b,c,d] y"))
    assert (record.applied, record.skipped) == ((), ())
