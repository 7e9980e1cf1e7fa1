"""What a worker does for a cell, in this process: who holds its lock, and what killed ones left."""

from __future__ import annotations

import functools
import gc
import platform
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgevit.core.errors import CheckpointError, OutputError
from edgevit.remote.sweep import work
from edgevit.remote.sweep.result import BUNDLE, RESULT_FILE, CellResult, describe_report
from edgevit.remote.sweep.work import Job, MachineFaultError, build_cell, do_once, hold_cell, prepare_cell
from tests.support.page_bundles import make_report, write_page_bundle
from tests.support.sweep_jobs import count_ends, make_jobs, make_result

_HOLD = """
import sys
from edgevit.build.lock import lock_output
with lock_output(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_jobs(tmp_path, 1)[0]


@pytest.fixture
def other(job):
    """Another process that holds the cell's lock, as the worker of a driver that was killed does."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(job.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def pack(job: Job) -> CellResult:
    """What a build leaves and gives."""
    report = make_report()
    write_page_bundle(job.folder / BUNDLE, report)
    return describe_report(job.name, job.key, job.cell.source, job.target, report, bundle=True)


def refuse() -> CellResult:
    raise AssertionError("it was built again")


def test_do_once_keeps_the_result_for_the_next_one(job, tmp_path):
    result = do_once(job, lambda: pack(job))
    assert do_once(job, refuse) == job.load() == result
    assert count_ends(tmp_path) == {job.name: 1}
    assert sorted(p.name for p in job.folder.parent.iterdir()) == [job.name]  # no lock is left


def test_do_once_waits_for_another_process_and_takes_what_it_came_to(job, tmp_path, other):
    found: list[CellResult] = []
    thread = threading.Thread(target=lambda: found.append(do_once(job, refuse)))
    thread.start()
    job.folder.mkdir()
    job.log("begun")
    result = work.keep(job, pack(job))  # as the process with the lock would
    time.sleep(0.1)
    other.communicate("")
    thread.join(60)
    assert found == [result]
    assert count_ends(tmp_path) == {job.name: 1}


def test_do_once_builds_when_the_other_process_is_killed(job, other):
    threading.Timer(0.2, other.kill).start()
    assert do_once(job, lambda: pack(job)).passed


def test_load_does_not_touch_what_another_process_builds(job, tmp_path, other):
    job.log("begun")
    pack(job)  # its bundle is there, its result not yet
    assert job.load() is None
    assert count_ends(tmp_path) == {job.name: 0}
    other.communicate("")
    assert job.load() == do_once(job, refuse)
    assert count_ends(tmp_path) == {job.name: 1}


def test_hold_cell_does_not_wait_for_ever(job, other):
    with pytest.raises(MachineFaultError, match=f"another build .process {other.pid}"), hold_cell(job, patience=0.3):
        pass


def test_hold_cell_does_not_wait_where_nothing_can_be_written(tmp_path, monkeypatch):
    job = make_jobs(tmp_path, 1)[0]

    def refuse_writing(*args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("edgevit.build.lock.take_lock", refuse_writing)
    with pytest.raises(MachineFaultError, match="Permission denied"), hold_cell(job):
        pass


def test_killed_between_bundle_and_result_is_done_and_not_built_again(job, tmp_path):
    job.folder.mkdir()
    job.log("begun")
    result = pack(job)
    assert do_once(job, refuse) == result
    assert count_ends(tmp_path) == {job.name: 1}


def test_bundle_of_an_earlier_plan_is_not_taken_for_the_cells(job):
    do_once(job, lambda: pack(job))
    changed = replace(job, key="f" * 32)
    assert changed.load() is None
    (job.folder / RESULT_FILE).unlink()
    assert changed.load() is None
    built: list[bool] = []

    def build() -> CellResult:
        built.append((job.folder / BUNDLE).exists())
        return replace(pack(changed), precision="fp16")

    assert do_once(changed, build).precision == "fp16"
    assert built == [False]
    assert job.load() is None  # nor the new one for that of the old plan


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.99])
def test_half_a_result_is_none(job, share):
    do_once(job, lambda: pack(job))
    whole = (job.folder / RESULT_FILE).read_bytes()
    (job.folder / RESULT_FILE).write_bytes(whole[: int(share * len(whole))])
    assert CellResult.load(job.folder, job.key) is None
    assert do_once(job, refuse).passed  # the bundle tells the rest


@pytest.mark.parametrize("text", ["[]", "7", "null", "{}", '{"name": 3}', "\x00\x00", '{"key": "' + "a" * 9])
def test_result_that_is_none_of_ours_is_none(job, text):
    job.folder.mkdir()
    (job.folder / RESULT_FILE).write_text(text)
    assert job.load() is None


def test_result_without_its_bundle_is_none(job):
    do_once(job, lambda: make_result(job))
    assert job.load() is None
    assert do_once(job, lambda: pack(job)).passed


def test_what_killed_processes_left_is_removed_before_a_build(job):
    job.folder.mkdir()
    for name in (".bundle.0123", ".bundle.edgevit-new-77"):
        (job.folder / name).mkdir()
        (job.folder / name / "model.onnx").write_bytes(b"half")
    (job.folder / f".{RESULT_FILE}.aa").write_text("{")
    do_once(job, lambda: pack(job))
    assert sorted(p.name for p in job.folder.iterdir()) == ["attempts.log", "bundle", "result.json"]


def test_error_of_the_cell_is_kept_and_one_of_the_machine_is_not(job):
    def fail(error: Exception) -> CellResult:
        raise error

    for error in (OutputError("the disk is full", "make room"), MemoryError(), OSError(5, "Input/output error")):
        with pytest.raises(MachineFaultError):
            do_once(job, functools.partial(fail, error))
        assert job.load() is None
    kept = do_once(job, lambda: fail(CheckpointError("half a file", "get it again")))
    assert (kept.error, kept.hint) == ("half a file", "get it again")
    assert do_once(job, refuse) == kept


@pytest.mark.parametrize("step", [prepare_cell, build_cell])
def test_node_with_another_edgevit_or_without_the_folder_does_nothing(job, step):
    with pytest.raises(MachineFaultError, match=r"has edgevit .*, and the sweep was started with 0\.0\.0"):
        step(replace(job, version="0.0.0"))
    elsewhere = job.folder.parent.with_name("elsewhere")
    with pytest.raises(MachineFaultError, match=r"does not see .*elsewhere"):
        step(replace(job, folder=elsewhere / job.name))
    assert not elsewhere.exists()


def test_what_cannot_be_used_of_a_shared_cache_is_noted_and_waiting_is_not(job, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEVIT_SHARED_CACHE", str(tmp_path / "file" / "below"))
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "cache"))
    job.note("of an earlier step")
    cache = work.open_cache(job)
    cache.note("waiting for another build's export")
    assert job.read_notes() == ()
    cache.run("export", {"number": 1}, lambda folder: (folder / "made").touch())
    (said,) = job.read_notes()
    assert re.match(rf"{platform.node()}: the shared cache .*below cannot be (read|written)", said)


@pytest.mark.usefixtures("thawed")  # as in a worker
def test_steps_do_not_look_through_what_stays_whenever_garbage_is_collected(job):
    frozen = []

    def build() -> CellResult:
        frozen.append(gc.get_freeze_count())
        return pack(job)

    assert do_once(job, build).passed
    assert frozen[0] > 0
    assert gc.get_freeze_count() == 0  # of a process that does other things too


def test_prepare_cell_keeps_the_error_that_stops_a_cell(job, tmp_path):
    found = prepare_cell(job)  # its source is an empty file
    assert found is not None
    assert found.failed
    assert build_cell(job) == job.load() == found
    assert count_ends(tmp_path) == {job.name: 1}
