"""choose_board: which board takes a piece of work; nothing is asked or waited for here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgevit.core.errors import DeviceError
from edgevit.remote.fleet.board import Board, BoardState


def choose_board(
    boards: Sequence[Board], states: Mapping[str, BoardState], target: str, labels: Sequence[str] = ()
) -> Board | None:
    """The first board of a target, with all of these labels, that is ready.

    Args:
        boards: In the order of their preference.
        states: By the boards' names. A board that is missing is not taken: whoever gave it work leaves it out.
        target: A target's name; all boards of a name are twins, which take work for one another.
        labels: That the board must have.

    Returns:
        ``None`` where boards of the target are there, but none of them can take work now.

    Raises:
        DeviceError: No board is of this target and has these labels, so that waiting is in vain; or all of them are
            ``wrong``.
    """
    fitting = [board for board in boards if board.target.name == target and set(labels) <= set(board.labels)]
    if not fitting:
        having = f" with the label{'s' if len(labels) > 1 else ''} {', '.join(labels)}" if labels else ""
        there = ", ".join(dict.fromkeys(board.target.name for board in boards)) or "none"
        raise DeviceError(f"no board of the fleet is a {target}{having}", f"the fleet's boards are: {there}")
    known = {board.name: states[board.name] for board in fitting if board.name in states}
    wrong = [f"{name}: {state.sentence}" for name, state in known.items() if state.state == "wrong"]
    if len(wrong) == len(fitting):
        raise DeviceError(f"no board that is a {target} can be used: {'; '.join(wrong)}", "see to the boards")
    return next((board for board in fitting if board.name in known and known[board.name].state == "ready"), None)


def list_twins(boards: Sequence[Board], board: Board) -> tuple[Board, ...]:
    """The other boards of its target, which its work may move to."""
    return tuple(b for b in boards if b.target.name == board.target.name and b.name != board.name)
