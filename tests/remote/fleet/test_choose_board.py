"""Which board takes a piece of work."""

from __future__ import annotations

import pytest

from edgevit.core.errors import DeviceError
from edgevit.core.target import load_target
from edgevit.remote.fleet.board import Board, BoardState, State
from edgevit.remote.fleet.choose_board import choose_board, list_twins

PI, CPU = load_target("raspberry-pi-5"), load_target("cpu")
BOARDS = (Board("a", "a", PI, ("x",)), Board("b", "b", PI, ("x", "y")), Board("c", "c", CPU))


def states(**given: State) -> dict[str, BoardState]:
    return {name: BoardState(state, f"{name} said so") for name, state in given.items()}


def choose(target: str, *labels: str, **given: State) -> str | None:
    board = choose_board(BOARDS, states(**given), target, labels)
    return board.name if board is not None else None


def test_first_ready_board_of_the_target_is_taken() -> None:
    assert choose("raspberry-pi-5", a="ready", b="ready", c="ready") == "a"
    assert choose("cpu", a="ready", b="ready", c="ready") == "c"


@pytest.mark.parametrize("state", ["busy", "hot", "full", "gone", "wrong"])
def test_work_moves_to_the_twin_of_a_board_that_cannot_take_it(state: State) -> None:
    assert choose("raspberry-pi-5", a=state, b="ready", c="ready") == "b"


def test_board_that_has_work_already_is_left_out() -> None:
    assert choose("raspberry-pi-5", b="ready") == "b"
    assert choose("raspberry-pi-5", c="ready") is None


def test_nothing_is_chosen_while_all_of_the_target_are_away() -> None:
    assert choose("raspberry-pi-5", a="busy", b="gone", c="ready") is None


def test_labels_are_all_asked_for() -> None:
    assert choose("raspberry-pi-5", "y", a="ready", b="ready") == "b"
    assert choose("raspberry-pi-5", "x", "y", a="ready", b="busy") is None


def test_work_that_no_board_can_ever_take_is_an_error() -> None:
    with pytest.raises(DeviceError, match="no board of the fleet is a intel-cpu") as caught:
        choose("intel-cpu")
    assert "raspberry-pi-5, cpu" in caught.value.hint
    with pytest.raises(DeviceError, match="with the label z"):
        choose("cpu", "z", c="ready")
    with pytest.raises(DeviceError, match="c said so"):
        choose("cpu", c="wrong")


def test_twins_are_the_other_boards_of_the_target() -> None:
    assert [board.name for board in list_twins(BOARDS, BOARDS[0])] == ["b"]
    assert list_twins(BOARDS, BOARDS[2]) == ()
