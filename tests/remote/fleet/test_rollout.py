"""A bundle on every board: the command's table, document, notes and exit status."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgevit.cli import main
from edgevit.core.errors import BundleError
from edgevit.core.report.conditions import Platform
from edgevit.remote.fleet import rollout as module
from edgevit.remote.fleet.rollout import roll_out
from edgevit.remote.fleet.try_on_board import try_on_board
from edgevit.runtime.manifest import dump_manifest, hash_file, load_manifest
from edgevit.runtime.pack_file import pack_file
from tests.support.boards import FakeBoards
from tests.support.planted_files import plant
from tests.support.tiny_bundle import make_bundle

QUICK = ["--runs", "2", "--seconds", "0.05"]


@pytest.fixture
def fleet(boards: FakeBoards, tmp_path: Path) -> Path:
    return boards.write_fleet(tmp_path / "fleet.toml")


def run(bundle: Any, fleet: Path, *more: str) -> Result:
    arguments = ["rollout", str(getattr(bundle, "path", bundle)), "--fleet", str(fleet), *QUICK, *more]
    return CliRunner().invoke(main, arguments)


def strict_copy(bundle: Any, tmp_path: Path) -> Path:
    """The bundle, of whose engine more is asked than it can give."""
    copy = shutil.copytree(bundle.path, tmp_path / "strict")
    manifest = load_manifest(copy)
    assert manifest.canary is not None
    strict = dataclasses.replace(manifest, canary=dataclasses.replace(manifest.canary, least_db=500.0))
    (copy / "manifest.json").write_bytes(dump_manifest(strict))
    return copy


def words(text: str) -> str:
    return " ".join(text.split())


def test_bundle_that_passes_everywhere_has_status_0_and_a_row_for_each_board(boards, bundle, fleet):
    result = run(bundle, fleet)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    head, _, *rows = result.stdout.splitlines()
    assert head.split() == ["board", "host", "target", "state", "canary", "p50", "95", "%", "p90", "ratio"]
    for name, row in zip(("pi-1", "pi-2"), rows, strict=False):
        assert row.split()[:5] == [name, name, "cpu", "ready", "passed"]
        p50, interval, p90, ratio = row.split()[5:]
        low, high = map(float, interval.split("–"))
        assert low <= float(p50) <= high or low < high
        assert float(p90) > 0
        assert float(ratio) == pytest.approx(float(p50) / 1.5, abs=0.02)  # what the bundle carries
    assert "answer the canary differently" not in result.stdout
    assert "pi-1: canary: passed" in words(result.stderr)
    assert "pi-1: ready" not in result.stderr
    assert "boards: " in result.stderr
    assert "ratio: p50 over the bundle's own 1.50 ms" in result.stderr


def test_document_has_every_board_and_the_twins_and_on_a_board_nothing_is_left_but_its_cache(boards, bundle, fleet):
    for name in boards.servers:
        (boards.home(name) / "mine.txt").write_text("mine")
    result = run(bundle, fleet, "--json", "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert (document["passed"], document["target"], document["built_ms"]) == (True, "cpu", 1.5)
    for row, name in zip(document["boards"], ("pi-1", "pi-2"), strict=True):
        assert (row["board"], row["state"], row["outcome"]) == (name, "ready", "passed")
        assert row["trial"]["canary"]["status"] == "passed"
        assert row["trial"]["canary"]["inferences"] >= 1  # answered, whatever is remembered
        assert row["low_ms"] < row["high_ms"]
        assert len(row["trial"]["round_medians_ms"]) == 20
        assert row["trial"]["machine"]["cpu"]
    (pair,) = document["twins"]
    assert set(pair["boards"]) == {"pi-1", "pi-2"}
    assert pair["equal_answers"] is True
    assert pair["ratio"]["confidence"] == 0.99
    for name, server in boards.servers.items():
        home = boards.home(name)
        assert {path.name for path in home.iterdir()} == {"mine.txt", ".cache"}
        assert {path.name for path in (home / ".cache").iterdir()} == {"edgevit"}
        # what a device remembers of a canary that passed there, in place of answering it each time
        assert {path.name for path in server.cache.iterdir()} == {".edgevit-cache", "device", "canary"}
        assert {path.name for path in (server.cache / "device").iterdir()} == {"jobs", "lock"}
        assert server.jobs == []


def test_canary_that_fails_has_status_1_and_is_not_timed(boards, bundle, fleet, tmp_path):
    result = run(strict_copy(bundle, tmp_path), fleet, "--boards", "pi-1")
    assert result.exit_code == 1, result.output
    assert result.stdout.splitlines()[2].split()[3:] == ["ready", "failed", "–", "–", "–", "–"]
    assert "pi-1: canary failed: " in words(result.stdout)
    assert "at least 500.0 dB" in words(result.stdout)


def test_board_that_is_gone_or_full_is_said_so_and_the_others_go_on(boards, bundle, fleet):
    boards.unplug("pi-1")
    result = run(bundle, fleet)
    assert result.exit_code == 1
    first, second = result.stdout.splitlines()[2:4]
    assert words(first).startswith("pi-1 pi-1 cpu gone not tried –")
    assert second.split()[3:5] == ["ready", "passed"]
    assert "pi-1: gone: cannot connect to pi-1: it refuses the connection" in words(result.stdout)
    assert "hint: check that the ssh server runs there" in words(result.stdout)
    boards.reset()
    boards.free_bytes["pi-2"] = 1_000_000
    result = run(bundle, fleet, "--boards", "pi-2")
    assert result.exit_code == 1
    assert words(result.stdout.splitlines()[2]).startswith("pi-2 pi-2 cpu full not tried –")
    assert boards.servers["pi-2"].jobs == []


def test_busy_and_hot_boards_answer_and_what_their_latency_is_worth_is_said(boards, bundle, fleet):
    plant(boards.root("pi-1"), {"proc/loadavg": "7.5 5.0 3.0 9/200 1\n"})
    plant(boards.root("pi-2"), {"sys/class/thermal/thermal_zone0/temp": "99000\n"})
    result = run(bundle, fleet)
    assert result.exit_code == 0, result.output
    assert [row.split()[3:5] for row in result.stdout.splitlines()[2:4]] == [["busy", "passed"], ["hot", "passed"]]
    said = words(result.stdout)
    assert "pi-1: busy: its load average is 7.5 on 4 cores; its latency says little" in said
    assert "pi-2: hot: it is slowed down: cpu-thermal at 99 °C, slowed down from 99 °C on" in said


def test_board_of_another_target_is_refused_with_a_sentence_and_is_no_failure(boards, bundle, tmp_path):
    fleet = boards.write_fleet(tmp_path / "fleet.toml", pi_1="intel-cpu")
    result = run(bundle, fleet)
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()[2:4]
    assert words(first).startswith("pi-1 pi-1 intel-cpu – refused –")
    assert second.split()[3:5] == ["ready", "passed"]
    assert "is a bundle for cpu, and pi-1 is a intel-cpu" in words(result.stdout)
    assert ("pi-1", "probe") not in boards.asked


def test_engine_that_does_not_open_there_is_an_error_of_that_board(boards, bundle, fleet, tmp_path):
    broken = shutil.copytree(bundle.path, tmp_path / "broken")
    (model,) = broken.glob("**/*.onnx")
    model.write_bytes(b"no graph")
    manifest = load_manifest(broken)
    files = {**manifest.files, model.relative_to(broken).as_posix(): hash_file(model)}
    (broken / "manifest.json").write_bytes(dump_manifest(dataclasses.replace(manifest, files=files)))
    result = run(broken, fleet, "--boards", "pi-2")
    assert result.exit_code == 1, result.output
    assert result.stdout.splitlines()[2].split()[3:] == ["ready", "error", "–", "–", "–", "–"]
    assert re.search(
        r"cpu ready error – – – – pi-2: (?!pi-2).*(onnxruntime|cannot be opened|model\.onnx)", words(result.stdout)
    ), result.stdout
    assert boards.servers["pi-2"].jobs == []


def test_defect_on_the_board_is_an_error_and_no_canary_that_failed(boards, bundle):
    found = roll_out(bundle.path, [boards.board("pi-1")], runs=0, seconds=0.01)
    assert [row.outcome for row in found.boards] == ["error"]
    assert "unexpected ValueError: measuring takes a session" in found.boards[0].sentence


def test_twin_that_answers_differently_and_is_slower_is_warned_of_below_the_table(boards, bundle, fleet, monkeypatch):
    real = try_on_board

    def change_one(board, *rest, **options):
        trial, answers = real(board, *rest, **options)
        if board.name == "pi-1":
            return trial, answers
        machine = dataclasses.replace(trial.machine, platform=Platform(driver="550.1"), governor="powersave")
        slow = tuple(20 * value for value in trial.round_medians_ms)
        return dataclasses.replace(trial, machine=machine, round_medians_ms=slow), tuple(1.01 * a for a in answers)

    monkeypatch.setattr(module, "try_on_board", change_one)
    result = run(bundle, fleet)
    assert result.exit_code == 0
    said = words(result.stdout)
    assert "warning: pi-" in said
    assert re.search(r"answer the canary differently \((40\.0|40\.1) dB between their answers\); what differs: ", said)
    assert "pi-2 takes " in said
    assert "frequency governor" in said
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_boards_are_chosen_by_name(boards, bundle, fleet):
    boards.unplug("pi-1", "pi-2")  # which are asked, is what counts
    result = run(bundle, fleet, "--boards", "pi-2")
    assert result.exit_code == 1
    assert [row.split()[0] for row in result.stdout.splitlines()[2:3]] == ["pi-2"]
    assert {host for host, _ in boards.asked} == {"pi-2"}
    assert run(bundle, fleet, "--boards", "pi-3").exit_code == 2
    assert run(bundle, fleet, "--label", "kitchen").exit_code == 2


def test_what_cannot_be_rolled_out_has_status_2_and_no_board_is_asked(boards, bundle, fleet, tmp_path):
    without = make_bundle(tmp_path / "without", tmp_path / "work").path
    damaged = shutil.copytree(bundle.path, tmp_path / "damaged")
    (damaged / "recipe.toml").write_text("x")
    bare = tmp_path / "bare.toml"
    bare.write_text("[[boards]]\nname = 'x'\n")
    others = boards.write_fleet(tmp_path / "others.toml", pi_1="intel-cpu", pi_2="intel-n100")
    for source, file, said in (
        (without, fleet, "has no canary"),
        (damaged, fleet, "recipe.toml"),
        (tmp_path / "nowhere", fleet, "nowhere"),
        (bundle, bare, "missing key host"),
        (bundle, others, "none of the boards is one: they are intel-cpu, intel-n100"),
    ):
        result = run(source, file)
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        assert said in result.stderr
        assert "hint: " in result.stderr
    assert boards.asked == []


def test_portable_bundle_is_refused(boards, tmp_path):
    made = make_bundle(tmp_path / "portable", tmp_path / "work", canary=False)
    manifest = dataclasses.replace(load_manifest(made.path), engine=None)
    (made.path / "manifest.json").write_bytes(dump_manifest(manifest))
    with pytest.raises(BundleError, match="has no engine yet"):
        roll_out(made.path, [boards.board("pi-1")])


def test_packed_bundle_is_rolled_out_like_its_folder(boards, bundle, tmp_path):
    packed = pack_file(bundle.path, tmp_path / "bundle.edgevit")
    found = roll_out(packed, [boards.board("pi-1"), boards.board("pi-2", "intel-cpu")], runs=1, seconds=0.01)
    assert (found.bundle, found.passed, found.twins) == (str(packed), True, ())
    assert found.boards[1].sentence == f"{packed} is a bundle for cpu, and pi-2 is a intel-cpu"


def test_interrupt_ends_the_jobs_on_all_boards_and_removes_them(boards, bundle, fleet):
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from edgevit.cli import main\n"
        f"main(['rollout', {str(bundle.path)!r}, '--fleet', {str(fleet)!r}, '--seconds', '600'])"
    )
    root = Path(__file__).parents[3]
    child = subprocess.Popen(
        [sys.executable, "-c", script], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    while sum("canary: passed" in log for log in read_logs(boards)) < 2:  # both are being timed
        assert time.monotonic() < deadline, read_logs(boards)
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 130, said
    assert [server.jobs for server in boards.servers.values()] == [[], []]


def read_logs(boards: FakeBoards) -> list[str]:
    files = [job / "log" for server in boards.servers.values() for job in server.jobs]
    return [file.read_text() for file in files if file.exists()]
