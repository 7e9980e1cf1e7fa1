"""probe_board: whether a board can take work now, asked over ssh in two short calls."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgevit.core import schema
from edgevit.core.errors import DeviceError
from edgevit.core.libraries import LIBRARIES
from edgevit.measure.machine.heat import list_heat
from edgevit.measure.machine.processor import read_text
from edgevit.measure.machine.sensors import read_sensors
from edgevit.remote.fleet.board import Board, BoardState, is_disk_full
from edgevit.remote.probe import Probe, estimate_environment, probe_device
from edgevit.remote.ssh import Connection
from edgevit.remote.ssh_errors import OutOfReachError
from edgevit.runtime.folder import is_safe_name

LEAST_BYTES = 64 << 20
"""Free on a board that takes work, for edgevit's own wheel, the bundle's files and what the work says."""
_THERMAL = "sys/class/thermal"
_FILES = (
    "proc/loadavg",
    "sys/devices/system/cpu/online",
    *(f"{_THERMAL}/thermal_zone*/{name}" for name in ("type", "temp", "trip_point_*_type", "trip_point_*_temp")),
    *(f"{_THERMAL}/cooling_device*/{name}" for name in ("type", "cur_state")),
    *(f"sys/class/hwmon/hwmon*/{name}" for name in ("name", "in0_lcrit_alarm")),
)
"""What the board's state is read from. The agent sends the files as they are, and they are read here by what reads them
on the board itself while something is measured."""


@dataclass(frozen=True)
class _Look:
    """The agent's answer."""

    at_work: bool
    files: Mapping[str, str | None]


def probe_board(board: Board, *, room_bytes: int = LEAST_BYTES, finishes: bool = False) -> BoardState:
    """Ask a board for its state; the first is taken that holds, of gone, wrong, full, busy and hot.

    The sensors of NVIDIA's graphics cards are not asked, as their driver keeps them in no file; while something is
    measured there they are.

    Args:
        board: Which one.
        room_bytes: That the work needs on its disk, besides the environment where that was not made before.
        finishes: Whether a portable bundle is to be finished there, which takes more packages.

    Raises:
        MissingPackageError: There is no ``ssh`` here.
    """
    try:
        connection = Connection(board.host)
        found = probe_device(connection, board.target, finishes=finishes)
        look = schema.from_data(_Look, connection.ask("look", root="/", files=list(_FILES)), board.host, DeviceError)
        needed = room_bytes + _estimate_environment(connection, found, board, finishes)
        return _judge(look, found, needed)
    except OutOfReachError as exc:
        return BoardState("gone", exc.message.splitlines()[0], exc.hint)
    except DeviceError as exc:
        return BoardState("full" if is_disk_full(exc) else "wrong", exc.message.splitlines()[0], exc.hint)


def _estimate_environment(connection: Connection, found: Probe, board: Board, finishes: bool) -> int:
    extra = LIBRARIES[board.target.backend].extra
    return estimate_environment(connection, found, board.target, ("finish", extra) if finishes else (extra,))


def _judge(look: _Look, found: Probe, needed: int) -> BoardState:
    if found.free_bytes < needed:
        return BoardState(
            "full",
            f"{found.root} has {found.free_bytes / 1e6:,.0f} MB free, and about {needed / 1e6:,.0f} MB are needed",
            "make room on the device, or set EDGEVIT_CACHE there to a folder on a larger disk",
        )
    if look.at_work:
        return BoardState("busy", "another edgevit is at work there", "wait until it has ended")
    with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
        root = _write_files(Path(folder), look.files)
        cores, load = _count_cores(read_text(root / "sys/devices/system/cpu/online") or ""), _read_load(root)
        slowing = (*list_heat(root), *(f"{name} is active" for name in read_sensors(root).active))
        temperatures = read_sensors(root).temperatures_c
    if load is not None and cores and load > cores:
        return BoardState(
            "busy", f"its load average is {load:.1f} on {cores} cores", "wait, or end what else runs there"
        )
    if slowing:
        hint = "let it cool down, and see to its fan and its power supply"
        return BoardState("hot", f"it is slowed down: {'; '.join(slowing)}", hint)
    seen = [f"load {load:.1f} on {cores} cores"] if load is not None and cores else []
    seen += [f"at most {max(temperatures.values()):.0f} °C"] if temperatures else []
    return BoardState("ready", ", ".join([found.describe(), *seen]))


def _write_files(root: Path, files: Mapping[str, str | None]) -> Path:
    """The board's files below a folder here.

    Raises:
        DeviceError: A name leads elsewhere.
    """
    unsafe = [name for name in files if not is_safe_name(name)]
    if unsafe:
        raise DeviceError(f"it sent names that lead elsewhere: {', '.join(unsafe)}", "look into that device")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text or "", encoding="utf-8")
    return root


def _read_load(root: Path) -> float | None:
    """The load average of the last minute."""
    found = re.match(r"\d+\.\d+", read_text(root / "proc/loadavg") or "")
    return float(found[0]) if found else None


def _count_cores(online: str) -> int:
    """Of ``0-3,6``, five; 0 where it is something else."""
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", online):
        return 0
    ranges = [[int(number) for number in part.split("-")] for part in online.split(",")]
    return sum(numbers[-1] - numbers[0] + 1 for numbers in ranges)
