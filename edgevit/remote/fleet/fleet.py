"""load_fleet: ``fleet.toml``, which names the boards, refused whole where anything in it is wrong."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevit.core import schema
from edgevit.core.errors import DeviceError, EdgevitError, TargetError, format_offenders
from edgevit.core.target import Target, load_target
from edgevit.core.toml import load_toml
from edgevit.remote.fleet.board import NAME, Board
from edgevit.remote.ssh import check_host


class FleetError(EdgevitError):
    """A fleet's file with keys or values that are not valid, or boards that are not in it."""


@dataclass(frozen=True)
class Fleet:
    """Boards, in the order of their file; there is at least one.

    Attributes:
        path: The file.
        boards: All of them.
    """

    path: Path
    boards: tuple[Board, ...]

    def select(self, names: Sequence[str] = (), labels: Sequence[str] = ()) -> tuple[Board, ...]:
        """The boards of these names that have all of these labels; all of the fleet for none.

        Raises:
            FleetError: A name or label is of no board, or no board has all that is asked for.
        """
        known = {"board": [b.name for b in self.boards], "label": [word for b in self.boards for word in b.labels]}
        lost = [f"no board is called {name!r}" for name in names if name not in known["board"]]
        lost += [f"no board has the label {label!r}" for label in labels if label not in known["label"]]
        chosen = [b for b in self.boards if (not names or b.name in names) and set(labels) <= set(b.labels)]
        if lost or not chosen:
            lost = lost or ["no board has all of what is asked for"]
            listed = "; ".join(f"{what}s: {', '.join(dict.fromkeys(words)) or 'none'}" for what, words in known.items())
            raise FleetError(f"{self.path}: {'; '.join(lost)}", listed)
        return tuple(chosen)


@dataclass(frozen=True)
class _Entry:
    """A board as it is written."""

    name: str
    host: str
    target: str
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        misnamed = [word for word in self.labels if not NAME.fullmatch(word)]
        form = "is not a word of at most 40 letters, digits, '.', '_' and '-'"
        schema.refuse(
            (not NAME.fullmatch(self.name), f"name = {self.name!r} {form}"),
            *((True, f"labels has {word!r}, which {form}") for word in misnamed),
            (len(set(self.labels)) < len(self.labels), f"labels = {list(self.labels)} has a label twice"),
        )


@dataclass(frozen=True)
class _Document:
    """The file, whose boards are read one by one, so that each is refused for all that is wrong with it."""

    boards: tuple[Any, ...]

    def __post_init__(self) -> None:
        schema.refuse((not self.boards, "boards is empty: a board begins with the line [[boards]]"))


def load_fleet(path: str | os.PathLike[str]) -> Fleet:
    """Read the boards of a fleet; nothing is asked of them.

    A target is a profile's name or a TOML file, whose path is relative to the fleet's file.

    Raises:
        FleetError: The file cannot be read, or anything in it is not valid: unknown keys, targets and labels, names and
            hosts that two boards have, hosts that are none. All of it is listed.
    """
    path = Path(path)
    data = load_toml(path, FleetError)
    problems: list[str] = []
    hints: list[str] = []
    rows = data.get("boards")
    if not isinstance(rows, list) or not rows or set(data) != {"boards"}:
        _collect(lambda: schema.from_data(_Document, data, "it", FleetError), "", problems, hints)
    boards = []
    for index, row in enumerate(rows if isinstance(rows, list) else ()):
        board = _read_board(row, f"boards[{index}]", path.parent, problems, hints)
        boards += [board] if board is not None else []
    tables = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    for key in ("name", "host"):
        counts = Counter(row[key] for row in tables if isinstance(row.get(key), str))
        problems += [f"{key} {value!r} is given to {n} boards" for value, n in counts.items() if n > 1]
    if problems:
        plural = "s" if len(problems) > 1 else ""
        hint = "; ".join(dict.fromkeys(hints)) or "correct what is listed and run again"
        raise FleetError(f"{path} has {len(problems)} problem{plural}:\n{format_offenders(problems)}", hint)
    return Fleet(path, tuple(boards))


def _read_board(data: object, where: str, folder: Path, problems: list[str], hints: list[str]) -> Board | None:
    """The board, or ``None`` with what is wrong added; a host or target is looked at whatever the rest is."""
    known = len(problems)
    entry = _collect(lambda: schema.from_data(_Entry, data, where, FleetError), f"{where}: ", problems, hints)
    table = data if isinstance(data, dict) else {}
    host, name = table.get("host"), table.get("target")
    if isinstance(host, str):
        _collect(lambda: check_host(host), f"{where}: host = ", problems, hints)
    target = None
    if isinstance(name, str):
        target = _collect(lambda: _load_target(name, folder), f"{where}: target: ", problems, hints)
    if len(problems) > known or entry is None or target is None:
        return None
    return Board(entry.name, entry.host, target, entry.labels)


def _load_target(name: str, folder: Path) -> Target:
    """A profile by name, or a file beside the fleet's."""
    return load_target(folder / name if name.endswith(".toml") or "/" in name else name)


def _collect(read: Any, where: str, problems: list[str], hints: list[str]) -> Any:
    """What ``read`` gives; its complaints, each with ``where`` before it, are added to the others."""
    try:
        return read()
    except FleetError as exc:  # of from_data: its first line counts the others
        problems += [f"{where}{line.strip()}" for line in exc.whole.split("\n")[1:]]
        hints.append(exc.hint)
    except (DeviceError, TargetError) as exc:
        problems.append(f"{where}{exc.whole}")
        hints.append(exc.hint)
    return None
