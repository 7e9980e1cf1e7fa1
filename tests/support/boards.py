"""Boards of a fleet: this machine behind several sshds, each with a home, a load and temperatures of its own."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgevit.core.target import load_target
from edgevit.remote.fleet.board import Board
from edgevit.remote.ssh import PYTHON, Connection
from tests.support.loopback import Loopback, start_server, write_client
from tests.support.planted_files import plant

IDLE = {
    "proc/loadavg": "0.20 0.40 0.30 1/200 4711\n",
    "sys/devices/system/cpu/online": "0-3\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "51000\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_type": "passive\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp": "99000\n",
}
"""What an idle, cool board of four cores says of itself. This machine's own load is not a test's."""


@dataclass
class FakeBoards:
    """Servers by the boards' names, and how each is to look.

    Attributes:
        folder: With the client's configuration.
        servers: By name, in order.
        free_bytes: Of a board whose disk is to look fuller than it is.
        asked: Verbs that each board was asked for.
    """

    folder: Path
    servers: dict[str, Loopback]
    free_bytes: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def reset(self) -> None:
        """All of them idle, cool, in reach and empty."""
        self.free_bytes.clear()
        self.asked.clear()
        self.unplug()
        for name in self.servers:
            shutil.rmtree(self.home(name), ignore_errors=True)
            shutil.rmtree(self.root(name), ignore_errors=True)
            self.home(name).mkdir()
            plant(self.root(name), IDLE)

    def unplug(self, *gone: str) -> None:
        """Let the client find all boards but these."""
        blocks = [s.describe_host(n, **({"Port": "1"} if n in gone else {})) for n, s in self.servers.items()]
        (self.folder / "config").write_text("\n".join(blocks))

    def home(self, name: str) -> Path:
        """What the board's user calls home."""
        return self.folder / f"home-{name}"

    def root(self, name: str) -> Path:
        """Below which the board's ``proc`` and ``sys`` lie."""
        return self.folder / f"root-{name}"

    def board(self, name: str, target: str = "cpu", labels: Sequence[str] = ()) -> Board:
        """One of them, as a fleet has it."""
        return Board(name, name, load_target(target), tuple(labels))

    def write_fleet(self, path: Path, **targets: str) -> Path:
        """A fleet's file with all boards, of the target ``cpu`` unless another is given."""
        rows = [
            f'[[boards]]\nname = "{n}"\nhost = "{n}"\ntarget = "{targets.get(n.replace("-", "_"), "cpu")}"\n'
            for n in self.servers
        ]
        path.write_text("\n".join(rows))
        return path


@contextmanager
def start_boards(folder: Path, names: Sequence[str]) -> Iterator[FakeBoards]:
    """Start a server for each, or skip with the reason."""
    servers: dict[str, Loopback] = {}
    try:
        for name in names:
            (folder / name).mkdir()
            (folder / f"home-{name}").mkdir()
            servers[name] = start_server(folder / name, home=folder / f"home-{name}")
        write_client(folder)
        yield FakeBoards(folder, servers)
    finally:
        for server in servers.values():
            os.kill(server.pid, signal.SIGTERM)


def use_boards(boards: FakeBoards, monkeypatch: pytest.MonkeyPatch) -> FakeBoards:
    """Let this process reach them, by this environment's Python, and find below each board's root what it looks at."""
    monkeypatch.setenv("PATH", f"{boards.folder / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv(PYTHON, sys.executable)
    boards.reset()
    ask = Connection.ask

    def ask_board(self: Connection, verb: str, **request: Any) -> dict[str, Any]:
        boards.asked.append((self.host, verb))
        if verb == "look":
            request["root"] = str(boards.root(self.host))
        answer = ask(self, verb, **request)
        if verb == "probe" and self.host in boards.free_bytes:
            answer["free_bytes"] = boards.free_bytes[self.host]
        return answer

    monkeypatch.setattr(Connection, "ask", ask_board)
    return boards
