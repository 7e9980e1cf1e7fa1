"""The state of a board, each provoked on one behind a real sshd."""

from __future__ import annotations

import fcntl
import pickle

import pytest

from edgevit.core.target import read_architecture
from edgevit.remote import agent
from edgevit.remote.fleet.board import BoardUnavailable
from edgevit.remote.fleet.probe_board import _count_cores, probe_board
from edgevit.remote.ssh import PYTHON
from tests.support.planted_files import plant
from tests.support.small_disk import small_disk

ZONE = "sys/class/thermal/thermal_zone0"


def test_idle_board_is_ready_and_says_what_was_seen(boards):
    state = probe_board(boards.board("pi-1"))
    assert state.state == "ready", state
    assert "Python 3." in state.sentence
    assert state.sentence.endswith("load 0.2 on 4 cores, at most 51 °C")
    assert state.hint == ""


def test_asking_writes_nothing_but_the_cache_folder_with_its_mark(boards):
    probe_board(boards.board("pi-1"))
    home = boards.home("pi-1")
    found = {path.relative_to(home).as_posix() for path in home.rglob("*")}
    assert found == {".cache", ".cache/edgevit", ".cache/edgevit/.edgevit-cache", ".cache/edgevit/device"}
    assert list(boards.home("pi-2").iterdir()) == []


def test_board_on_which_another_edgevit_is_at_work_is_busy(boards):
    folder = boards.servers["pi-1"].cache / "device"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert (state := probe_board(boards.board("pi-1"))).state == "busy", state
        assert "another edgevit is at work" in state.sentence
    assert probe_board(boards.board("pi-1")).state == "ready"  # the lock's file is still there


@pytest.mark.parametrize(("load", "state"), [("4.00", "ready"), ("4.10", "busy")])
def test_board_whose_load_is_above_its_cores_is_busy(boards, load, state):
    plant(boards.root("pi-1"), {"proc/loadavg": f"{load} 1.00 0.50 5/300 1234\n"})
    found = probe_board(boards.board("pi-1"))
    assert found.state == state
    assert (found.sentence == "its load average is 4.1 on 4 cores") is (state == "busy")


def test_board_at_its_zone_s_trip_point_is_hot(boards):
    plant(boards.root("pi-1"), {f"{ZONE}/temp": "101200\n"})
    state = probe_board(boards.board("pi-1"))
    assert (state.state, state.sentence) == (
        "hot",
        "it is slowed down: cpu-thermal at 101 °C, slowed down from 99 °C on",
    )
    assert "cool" in state.hint


def test_board_that_something_slows_down_is_hot_whatever_its_temperature(boards):
    cooling = "sys/class/thermal/cooling_device0"
    plant(boards.root("pi-1"), {f"{cooling}/type": "cpufreq-cpu0\n", f"{cooling}/cur_state": "2\n"})
    assert probe_board(boards.board("pi-1")).sentence == "it is slowed down: cpufreq-cpu0 is active"
    rails = {"sys/class/hwmon/hwmon0/name": "rpi_volt\n", "sys/class/hwmon/hwmon0/in0_lcrit_alarm": "1\n"}
    plant(boards.root("pi-2"), rails)
    assert probe_board(boards.board("pi-2")).sentence == "it is slowed down: under-voltage is active"


def test_board_without_room_for_the_work_is_full(boards):
    boards.free_bytes["pi-1"] = 300_000_000
    assert probe_board(boards.board("pi-1")).state == "ready"
    state = probe_board(boards.board("pi-1"), room_bytes=400_000_000)
    assert state.state == "full"
    assert "300 MB free, and about 400 MB are needed" in state.sentence


def test_environment_that_has_to_be_made_first_counts(boards, monkeypatch):
    boards.free_bytes["pi-1"] = 100_000_000
    monkeypatch.delenv(PYTHON)
    assert probe_board(boards.board("pi-1"), room_bytes=1).state == "full"


def test_disk_that_is_really_full_is_full(boards):
    with small_disk(boards.home("pi-1"), 1 << 20):
        state = probe_board(boards.board("pi-1"))
        assert state.state == "full", state
        assert "MB free" in state.sentence
        (boards.home("pi-1") / "big").write_bytes(bytes((1 << 20) - (16 << 10)))
        assert probe_board(boards.board("pi-1")).state == "full"


def test_board_that_cannot_be_reached_is_gone(boards):
    boards.unplug("pi-1")
    state = probe_board(boards.board("pi-1"))
    assert state.state == "gone"
    assert "it refuses the connection" in state.sentence
    assert "\n" not in state.sentence


def test_board_that_is_not_its_target_s_is_wrong(boards):
    other = "raspberry-pi-5" if read_architecture() == "x86_64" else "intel-n100"
    state = probe_board(boards.board("pi-1", other))
    assert state.state == "wrong"
    assert f"and pi-1 has {read_architecture()}" in state.sentence


def test_board_that_lets_nobody_in_is_wrong_as_waiting_does_not_help(boards):
    (boards.folder / "config").write_text(
        boards.servers["pi-1"].describe_host("pi-1", IdentityFile=str(boards.servers["pi-1"].folder / "other_key"))
    )
    state = probe_board(boards.board("pi-1"))
    assert (state.state, "permission denied" in state.sentence) == ("wrong", True)


def test_board_that_sends_names_that_lead_elsewhere_is_wrong_and_nothing_is_written(boards, monkeypatch, tmp_path):
    from edgevit.remote.ssh import Connection

    ask = Connection.ask
    evil = str(tmp_path / "planted")

    def lie(self, verb, **request):
        answer = ask(self, verb, **request)
        return {**answer, "files": {evil: "x", "../up": "y"}} if verb == "look" else answer

    monkeypatch.setattr(Connection, "ask", lie)
    state = probe_board(boards.board("pi-1"))
    assert (state.state, "lead elsewhere" in state.sentence) == ("wrong", True)
    assert list(tmp_path.iterdir()) == []


def test_state_travels_with_its_error_between_processes(boards):
    boards.unplug("pi-1")
    error = BoardUnavailable("pi-1", probe_board(boards.board("pi-1")))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is BoardUnavailable
    assert (again.board, again.state, again.message) == ("pi-1", error.state, error.message)
    assert error.message.startswith("pi-1 is gone: cannot connect to pi-1")


@pytest.mark.parametrize(
    ("online", "count"), [("0", 1), ("0-3", 4), ("0-3,6", 5), ("0-1,4-5", 4), ("", 0), ("all", 0), ("0-", 0)]
)
def test_cores_that_are_online_are_counted(online, count):
    assert _count_cores(online) == count


def test_looking_makes_no_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "cache"))
    said: list[dict[str, object]] = []
    monkeypatch.setattr(agent, "say", said.append)
    root = plant(tmp_path / "root", {"proc/loadavg": "0.1\n", "proc/version": "5\n"})
    agent.look({"files": ["proc/loadavg", "sys/*/nothing"], "root": str(root)})
    assert said == [{"at_work": False, "files": {"proc/loadavg": "0.1"}}]
    assert not (tmp_path / "cache").exists()
