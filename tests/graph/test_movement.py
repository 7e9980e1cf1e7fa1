"""Where numbers come from, followed through spellings of one movement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgevit.graph import movement, moves
from edgevit.graph.movement import trace
from tests.support.pass_graphs import constant, draw, parse, run

IO: dict[str, Any] = {"inputs": "float[2,3,4] x", "outputs": "float[a,b,c] y"}
X = {"x": draw(2, 3, 4)}
SHAPES = (
    constant("flat", np.asarray([24]))
    + constant("wide", np.asarray([2, 12]))
    + constant("rows", np.asarray([2, 0, 1]))
    + constant("one", np.asarray([1]))
    + constant("far", np.asarray([9]))
    + constant("zero", np.asarray([0]))
    + "two = Constant <value = float {2.0}> () "
)
MOVES = {
    "transpose": "r = Transpose <perm = [2, 0, 1]> (x)",
    "reshape": "r = Reshape (x, wide)",
    "gather": "r = Gather <axis = 1> (x, rows)",
    "roll": "p = Slice (x, one, far, one) q = Slice (x, zero, one, one) r = Concat <axis = 1> (p, q)",
    "scale_and_shift": "p = Mul (x, two) q = Add (p, two) r = Transpose <perm = [1, 0, 2]> (q)",
    "halved_and_taken_from": "p = Div (x, two) r = Sub (two, p)",
}


@pytest.mark.parametrize("move", MOVES)
def test_trace_gives_the_numbers_that_the_graph_computes(move: str) -> None:
    graph = parse(SHAPES + MOVES[move] + " y = Identity (r)", **IO)
    view = trace(next(n for n in graph.model.graph if n.op_type == "Identity").outputs[0])
    assert view.source is graph.model.graph.inputs[0]
    offset = 0.0 if view.offset is None else view.offset
    made = X["x"].reshape(-1)[view.index] * view.scale + offset
    np.testing.assert_allclose(made, run(graph, X), rtol=1e-5)
    assert view.moves_alone == ("Mul" not in MOVES[move] and "Div" not in MOVES[move])
    assert view.is_flat == (move in ("reshape", "halved_and_taken_from"))


@pytest.mark.parametrize("body", ["r = Neg (x)", "r = Div (two, x)", "r = Mul (x, x)"])
def test_trace_stops_at_what_is_computed(body: str) -> None:
    graph = parse(SHAPES + body + " y = Identity (r)", **IO)
    view = trace(next(n for n in graph.model.graph if n.op_type == "Identity").outputs[0])
    assert view.source is not None
    assert view.source.name == "r"
    assert view.moves_alone
    assert view.is_flat


def test_every_operator_of_the_list_of_moves_can_be_followed() -> None:
    assert set(movement._STEPS) - set(moves.MOVES) == {"Add", "Sub", "Mul", "Div", "Neg"}
    assert set(moves.MOVES) <= set(movement._STEPS)
