"""A piece of a sweep's work on a board: when it has to wait or move, and when it has failed."""

from __future__ import annotations

import fcntl

import pytest

from edgevit.build.build import build_model
from edgevit.cli.demo_models import MODELS
from edgevit.core.errors import BundleError, DeviceError
from edgevit.core.recipe import Recipe
from edgevit.core.target import load_target
from edgevit.remote.fleet import finish_on_board as module
from edgevit.remote.fleet.board import BoardUnavailable
from edgevit.remote.fleet.choose_board import choose_board
from edgevit.remote.fleet.finish_on_board import finish_on_board
from edgevit.remote.fleet.probe_board import probe_board
from edgevit.remote.ssh_errors import OutOfReachError
from edgevit.runtime.bundle import verify_bundle
from tests.support.planted_files import plant

QUICK = Recipe(precision="fp32", latency_runs=2, latency_seconds=0.05, tune_settings=False)


@pytest.fixture(scope="module")
def portable(tmp_path_factory):
    out = tmp_path_factory.mktemp("portable") / "bundle"
    return build_model(MODELS["vit"], load_target("cpu"), out=out, recipe=QUICK, portable=True).bundle


def test_work_of_a_busy_board_moves_to_its_twin_which_finishes_it(boards, portable, tmp_path):
    fleet = [boards.board("pi-1"), boards.board("pi-2")]
    folder = boards.servers["pi-1"].cache / "device"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BoardUnavailable, match="pi-1 is busy: another edgevit is at work there") as caught:
            finish_on_board(fleet[0], portable, out=tmp_path / "out")
        states = {caught.value.board: caught.value.state, "pi-2": probe_board(fleet[1])}
        twin = choose_board(fleet, states, "cpu")
        assert twin == fleet[1]
        assert not (tmp_path / "out").exists()
        result = finish_on_board(twin, portable, out=tmp_path / "out")
    assert not verify_bundle(result.bundle).manifest.portable
    assert result.report.variants[0].parity.passed
    assert boards.servers["pi-1"].jobs == boards.servers["pi-2"].jobs == []


def test_hot_full_and_lost_boards_are_no_failures_of_the_work(boards, portable, tmp_path):
    board = boards.board("pi-1")
    plant(boards.root("pi-1"), {"sys/class/thermal/thermal_zone0/temp": "99500\n"})
    with pytest.raises(BoardUnavailable, match="pi-1 is hot"):
        finish_on_board(board, portable, out=tmp_path / "out")
    boards.reset()
    boards.free_bytes["pi-1"] = 70_000_000  # room for what every job needs, and not for three times the graphs
    with pytest.raises(BoardUnavailable, match="pi-1 is full") as caught:
        finish_on_board(board, portable, out=tmp_path / "out")
    assert caught.value.hint.startswith("make room")
    boards.reset()
    boards.unplug("pi-1")
    with pytest.raises(BoardUnavailable, match="pi-1 is gone"):
        finish_on_board(board, portable, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (OutOfReachError("the connection to pi-1 was lost; the job goes on there\n  more", "again"), "gone"),
        (DeviceError("pi-1: its disk is full, at stage edgevit", "make room on the device, or …"), "full"),
    ],
)
def test_board_that_is_lost_or_fills_up_on_the_way_gives_its_work_back(
    boards, portable, tmp_path, monkeypatch, error, state
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(module, "finish_on", fail)
    with pytest.raises(BoardUnavailable) as caught:
        finish_on_board(boards.board("pi-1"), portable, out=tmp_path / "out")
    assert caught.value.state.state == state
    assert "\n" not in caught.value.message


def test_work_that_fails_and_board_that_is_wrong_are_not_tried_again(boards, portable, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise DeviceError("pi-1: the compiler does not take the graph", "see the lines above")

    monkeypatch.setattr(module, "finish_on", fail)
    with pytest.raises(DeviceError, match="the compiler") as caught:
        finish_on_board(boards.board("pi-1"), portable, out=tmp_path / "out")
    assert not isinstance(caught.value, BoardUnavailable)
    (boards.folder / "config").write_text(
        boards.servers["pi-1"].describe_host("pi-1", IdentityFile=str(boards.servers["pi-1"].folder / "other_key"))
    )
    with pytest.raises(DeviceError, match="permission denied") as caught:
        finish_on_board(boards.board("pi-1"), portable, out=tmp_path / "out")
    assert not isinstance(caught.value, BoardUnavailable)


def test_bundle_for_another_target_is_refused_before_the_board_is_asked(boards, portable, tmp_path):
    with pytest.raises(BundleError, match=r"is a bundle for cpu, and pi-1 is a raspberry-pi-5") as caught:
        finish_on_board(boards.board("pi-1", "raspberry-pi-5"), portable, out=tmp_path / "out")
    assert "--target raspberry-pi-5" in caught.value.hint
    assert boards.asked == []
