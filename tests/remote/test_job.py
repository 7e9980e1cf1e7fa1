"""Jobs on a device over a real sshd: done, dropped, killed, interrupted, resumed, two at once, no space."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from edgevit.core.errors import DeviceError
from edgevit.remote import job as job_module
from edgevit.remote.job import Job, run_job
from edgevit.remote.ssh import Connection, Exchange
from edgevit.remote.ssh_errors import OutOfReachError
from edgevit.remote.transfer import fetch_files, send_files
from edgevit.remote.wheel import make_wheel
from tests.support.loopback import HOST, Loopback
from tests.support.small_disk import small_disk


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return make_wheel(tmp_path_factory.mktemp("wheel"))


def make_job(name: str, wheel: Path, program: str, **files: Path) -> Job:
    """A job that runs a few lines of Python in its folder."""
    return Job(f"test-{name}-0000", ("-c", program), {wheel.name: wheel, **files})


def wait_for(path: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.02)


def cut_off(loopback: Loopback) -> None:
    """The network is gone, and does not come back by itself."""
    loopback.write_config(Port="1")
    loopback.drop_connections()


def read_status(loopback: Loopback) -> dict[str, Any]:
    (folder,) = loopback.jobs
    return json.loads((folder / "status.json").read_text())


def test_job_runs_the_sent_code_and_leaves_nothing_but_the_cache(loopback, connection, wheel, tmp_path):
    given = tmp_path / "given.bin"
    given.write_bytes(os.urandom(3_000_001))
    program = (
        "import edgevit, json, shutil, sys; print('working', file=sys.stderr)\n"
        "shutil.copy('input/a/given.bin', 'output/back.bin')\n"
        "import pathlib, tempfile\n"
        "print(json.dumps({'file': edgevit.__file__, 'home': str(pathlib.Path.home()), "
        "'temporary': tempfile.gettempdir()}))"
    )
    job = Job("test-success-0000", ("-c", program), {wheel.name: wheel, "a/given.bin": given})
    lines: list[str] = []
    result = run_job(connection, job, tmp_path / "out", log=lines.append)
    assert (tmp_path / "out" / "back.bin").read_bytes() == given.read_bytes()
    assert result["file"].startswith(str(loopback.cache / "device" / "jobs" / job.name / "code"))
    assert lines == ["working"]
    assert result["temporary"].startswith(str(loopback.cache))
    assert result["home"].startswith(str(loopback.cache))  # libraries leave their telemetry's numbers in it
    assert loopback.jobs == []
    assert {p.name for p in (loopback.cache / "device").iterdir()} == {"jobs", "lock"}


def test_failed_job_says_what_edgevit_said_with_its_last_lines(connection, wheel, tmp_path):
    program = (
        'import sys; print(\'{"error": "the board is tired", "hint": "let it rest"}\');'
        "print('compile fp16 …', file=sys.stderr); sys.exit(2)"
    )
    with pytest.raises(DeviceError, match="board: the board is tired\n  compile fp16 …") as caught:
        run_job(connection, make_job("failed", wheel, program), tmp_path)
    assert caught.value.hint == "let it rest"


def test_job_that_cannot_be_started_says_why(loopback, monkeypatch, connection, wheel, tmp_path):
    connection.own_python = "/nowhere/python"
    with pytest.raises(DeviceError, match=r"/nowhere/python"):
        run_job(connection, make_job("nostart", wheel, "pass"), tmp_path)


def test_measured_caches_travel_both_ways(loopback, connection, wheel, tmp_path, monkeypatch):
    here = tmp_path / "cache"
    monkeypatch.setenv("EDGEVIT_CACHE", str(here))
    (here / "tensorrt" / "timing").mkdir(parents=True)
    (here / "tensorrt" / "timing" / "10.3-Orin.cache").write_bytes(b"of another board")
    program = (
        "import os, pathlib; p = pathlib.Path(os.environ['EDGEVIT_CACHE'], 'tensorrt/timing')\n"
        "assert (p / '10.3-Orin.cache').read_bytes() == b'of another board'\n"
        "(p / '10.3-Orin.cache').write_bytes(b'more'); (p / '10.3-Thor.cache').write_bytes(b'new')"
    )
    job = dataclasses.replace(make_job("caches", wheel, program), cache_folder="tensorrt/timing")
    run_job(connection, job, tmp_path / "out")
    kept = {path.name: path.read_bytes() for path in (here / "tensorrt" / "timing").iterdir()}
    assert kept == {"10.3-Orin.cache": b"more", "10.3-Thor.cache": b"new"}
    shutil.rmtree(loopback.cache / "tensorrt")


def test_dropped_connection_is_made_again_and_no_line_is_lost_or_told_twice(loopback, connection, wheel, tmp_path):
    program = (
        "import time, sys, pathlib\n"
        "for i in range(60):\n"
        "    print('line', i, file=sys.stderr, flush=True); time.sleep(0.05)\n"
        "pathlib.Path('output/done').write_text('x')"
    )
    lines: list[str] = []

    def listen(line: str) -> None:
        lines.append(line)
        if line == "line 10":
            assert loopback.drop_connections() >= 1

    run_job(connection, make_job("dropped", wheel, program), tmp_path, log=listen)
    assert [line for line in lines if line.startswith("line")] == [f"line {i}" for i in range(60)]
    assert any("was lost" in line and "trying again in 1 s" in line for line in lines)
    assert (tmp_path / "done").exists()


def test_lost_job_goes_on_and_the_same_call_attaches_to_it(loopback, connection, wheel, tmp_path, monkeypatch):
    program = (
        "import time, pathlib, sys\n"
        f"log = open({str(tmp_path / 'runs')!r}, 'a'); log.write('run\\n'); log.flush()\n"
        "print('first', file=sys.stderr, flush=True)\n"
        f"while not pathlib.Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.05)\n"
        "print('last', file=sys.stderr); pathlib.Path('output/done').write_text('x')"
    )
    job = make_job("lost", wheel, program)
    monkeypatch.setattr(job_module, "RETRY_SECONDS", ())
    with pytest.raises(OutOfReachError, match="it refuses the connection; the job goes on there") as caught:
        run_job(connection, job, tmp_path / "out", log=lambda line: cut_off(loopback))
    loopback.write_config()
    assert "run the same command again" in caught.value.hint
    lines: list[str] = []

    def listen(line: str) -> None:
        lines.append(line)
        if line == "first":
            (tmp_path / "go").write_text("x")

    run_job(connection, job, tmp_path / "out", log=listen)
    assert lines == ["attached to the job that is under way there", "first", "last"]
    assert (tmp_path / "runs").read_text() == "run\n"
    assert (tmp_path / "out" / "done").exists()


def test_job_that_was_done_while_nobody_listened_is_fetched_and_not_run_again(
    loopback, connection, wheel, tmp_path, monkeypatch
):
    program = (
        "import pathlib, sys, time; print('begun', file=sys.stderr, flush=True); time.sleep(1)\n"
        f"open({str(tmp_path / 'runs')!r}, 'a').write('run\\n'); pathlib.Path('output/done').write_text('x')"
    )
    job = make_job("done", wheel, program)
    monkeypatch.setattr(job_module, "RETRY_SECONDS", ())
    with pytest.raises(OutOfReachError):
        run_job(connection, job, tmp_path / "out", log=lambda line: cut_off(loopback))
    loopback.write_config()
    wait_for(tmp_path / "runs")
    while read_status(loopback)["state"] != "done":
        time.sleep(0.05)
    run_job(connection, job, tmp_path / "out")
    assert (tmp_path / "runs").read_text() == "run\n"
    assert (tmp_path / "out" / "done").exists()


def test_killed_job_is_reported_and_goes_on_at_the_next_call(loopback, connection, wheel, tmp_path):
    program = (
        "import os, pathlib, sys, time\n"
        f"mark = pathlib.Path({str(tmp_path / 'first')!r})\n"
        "if not mark.exists():\n"
        "    mark.write_text(str(os.getpid())); print('compiling', file=sys.stderr, flush=True); time.sleep(60)\n"
        "pathlib.Path('output/done').write_text('x')"
    )
    job = make_job("killed", wheel, program)

    def kill() -> None:
        wait_for(tmp_path / "first")
        os.killpg(read_status(loopback)["pid"], signal.SIGKILL)  # as when the board runs out of memory

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(DeviceError, match="killed at stage edgevit\n  compiling") as caught:
        run_job(connection, job, tmp_path / "out")
    thread.join()
    assert "memory" in caught.value.hint
    lines: list[str] = []
    run_job(connection, job, tmp_path / "out", log=lines.append)
    assert lines == ["going on with a job that was broken off at stage edgevit: what was finished is kept"]
    assert (tmp_path / "out" / "done").exists()
    assert loopback.jobs == []


def test_two_jobs_at_once_wait_for_one_another(loopback, connection, wheel, tmp_path):
    program = (
        "import time, pathlib; p = pathlib.Path('output/times'); a = time.monotonic(); time.sleep(1);"
        "p.write_text(f'{a} {time.monotonic()}')"
    )
    lines: dict[str, list[str]] = {"one": [], "two": []}

    def run(name: str) -> None:
        run_job(Connection(HOST), make_job(name, wheel, program), tmp_path / name, log=lines[name].append)

    threads = [threading.Thread(target=run, args=(name,)) for name in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = sorted(tuple(map(float, (tmp_path / name / "times").read_text().split())) for name in lines)
    assert times[0][1] <= times[1][0]
    waited = [name for name, said in lines.items() if "waiting: another edgevit is at work on this device" in said]
    assert len(waited) == 1


def test_interrupt_ends_the_job_and_removes_it(loopback, connection, wheel, tmp_path):
    mark = tmp_path / "pid"
    program = f"import os, pathlib, time; pathlib.Path({str(mark)!r}).write_text(str(os.getpid())); time.sleep(60)"
    script = (
        "import pathlib; from edgevit.remote.job import Job, run_job; from edgevit.remote.ssh import Connection\n"
        # A suite that runs in the background hands on an ignored SIGINT.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"job = Job('test-interrupt-0000', ('-c', {program!r}), {{{wheel.name!r}: pathlib.Path({str(wheel)!r})}})\n"
        f"run_job(Connection({HOST!r}), job, pathlib.Path({str(tmp_path / 'out')!r}))"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, cwd=Path(__file__).parents[2])
    wait_for(mark)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=120)
    assert b"KeyboardInterrupt" in said
    assert loopback.jobs == []
    deadline = time.monotonic() + 10
    while Path(f"/proc/{mark.read_text()}").exists():  # ended, and soon collected by its new parent
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_device_without_space_is_refused_before_anything_is_sent(loopback, connection, wheel, tmp_path):
    disk = loopback.cache / "device" / "jobs"
    needed = 9_000_000 + sum(file.stat().st_size for file in (wheel, job_module._RUNNER))
    with small_disk(disk, 1 << 20):
        with pytest.raises(
            DeviceError, match=rf"not enough space: .* has 1 MB free, and about {needed / 1e6:.0f} MB are needed"
        ) as caught:
            run_job(connection, make_job("space", wheel, "pass", big=write(tmp_path / "big", 9_000_000)), tmp_path)
        assert "make room" in caught.value.hint
        assert [p for p in disk.rglob("*") if p.is_file() and p.stat().st_size] == []


def test_disk_that_fills_up_on_the_way_is_named(loopback, connection, tmp_path):
    disk = loopback.cache / "device" / "jobs"
    with small_disk(disk, 4 << 20):
        files = {"a": write(tmp_path / "a", 3_000_000)}
        with connection.call("put", {"job": "test-fills-0000", "files": {}, "reserve_bytes": 0}):
            pass
        wait_for(disk / "test-fills-0000")
        write(disk / "other", 2_500_000)
        # what is free was looked at, then somebody else was quicker
        records = {"a": {"sha256": "0" * 64, "size_bytes": 3_000_000}}
        with connection.call("put", {"job": "test-fills-0000", "files": records, "reserve_bytes": -(1 << 30)}) as call:
            call.receive()
            call.send(files["a"].read_bytes()[:1000])  # more than fits follows, and may meet a closed stream
            with pytest.raises(DeviceError, match="its disk is full"):
                send_rest(call, files["a"].read_bytes()[1000:] * 10)


def test_job_that_fills_the_disk_says_so(loopback, connection, wheel, tmp_path):
    program = (
        "import os, sys; stream = open('output/big', 'wb', buffering=0)\n"
        "while True: stream.write(bytes(1 << 16))"  # its error fits into no log either
    )
    with small_disk(loopback.cache / "device" / "jobs", 32 << 20):  # edgevit itself takes a quarter of it
        with pytest.raises(DeviceError, match="board: its disk is full, at stage edgevit") as caught:
            run_job(connection, make_job("full", wheel, program), tmp_path)
        assert "EDGEVIT_CACHE" in caught.value.hint


def test_error_that_is_in_the_lines_alone_is_shown(connection, wheel, tmp_path):
    program = "import sys; print('error: no result could be written', file=sys.stderr); sys.exit(2)"
    with pytest.raises(DeviceError, match="ended with status 2\n  error: no result could be written"):
        run_job(connection, make_job("lines", wheel, program), tmp_path)


def test_server_of_a_lost_connection_gives_way_to_the_next_and_others_wait(loopback, connection, wheel, tmp_path):
    job = make_job("server", wheel, "pass")
    run_job(connection, job, tmp_path, keep=True)
    wait = (
        "import json, pathlib, time; print(json.dumps({'home': str(pathlib.Path.home())}), flush=True); time.sleep(60)"
    )
    request = {"job": job.name, "arguments": ["-c", wait]}
    with connection.call("serve", request) as lost:
        assert lost.receive()["home"].startswith(
            str(loopback.cache)
        )  # as a job's: what libraries leave there goes with it
        with connection.call("serve", request) as again:
            assert "home" in again.receive()  # the first has noticed nothing, and held the lock
            with connection.call("serve", {**request, "job": "test-another-0000"}) as other:
                assert other.receive() == {"waiting": True}
                connection.ask("remove", job="test-another-0000")
            connection.ask("remove", job=job.name)
            with pytest.raises(DeviceError):
                again.receive()
    assert loopback.jobs == []


def test_half_a_file_is_completed_both_ways(loopback, connection, tmp_path):
    data = os.urandom(8 << 20)
    whole = tmp_path / "whole"
    whole.write_bytes(data)
    folder = loopback.cache / "device" / "jobs" / "test-half-0000"
    (folder / "input").mkdir(parents=True)
    (folder / "input" / "whole.part").write_bytes(data[: 5 << 20])
    sent: list[tuple[int, int]] = []
    send_files(
        connection, folder.name, {"whole": whole}, progress=lambda stage, done, total: sent.append((done, total))
    )
    assert (folder / "input" / "whole").read_bytes() == data
    assert sent[-1] == (3, 3)
    (folder / "output" / "deep").mkdir(parents=True)
    (folder / "output" / "deep" / "back").write_bytes(data)
    (tmp_path / "got" / "deep").mkdir(parents=True)
    (tmp_path / "got" / "deep" / "back.part").write_bytes(data[: 7 << 20])
    fetched: list[tuple[int, int]] = []
    fetch_files(
        connection, folder.name, tmp_path / "got", progress=lambda stage, done, total: fetched.append((done, total))
    )
    assert (tmp_path / "got" / "deep" / "back").read_bytes() == data
    assert fetched[-1] == (1, 1)
    connection.ask("remove", job=folder.name)


def test_half_a_file_of_other_content_is_noticed_and_sent_anew(loopback, connection, tmp_path):
    whole = write(tmp_path / "whole", 100_000)
    folder = loopback.cache / "device" / "jobs" / "test-other-0000"
    (folder / "input").mkdir(parents=True)
    (folder / "input" / "whole.part").write_bytes(b"something else")
    with pytest.raises(DeviceError, match="whole arrived damaged"):
        send_files(connection, folder.name, {"whole": whole})
    send_files(connection, folder.name, {"whole": whole})
    assert (folder / "input" / "whole").read_bytes() == whole.read_bytes()
    connection.ask("remove", job=folder.name)


def test_job_that_nobody_came_back_for_is_deleted_after_a_week(loopback, connection, wheel, tmp_path):
    old = loopback.cache / "device" / "jobs" / "test-forgotten-0000"
    (old / "input").mkdir(parents=True)
    others = [old.with_name(name) for name in (".git", "my-own-pictures", "Pictures of 2026")]
    for folder in (*others, old):
        folder.mkdir(exist_ok=True)
        os.utime(folder, (time.time() - 8 * 24 * 3600,) * 2)
    run_job(connection, make_job("young", wheel, "pass"), tmp_path)
    assert not old.exists()
    assert all(folder.exists() for folder in others)


def send_rest(call: Exchange, data: bytes) -> None:
    call.send(data)
    call.receive()


def write(path: Path, size: int) -> Path:
    path.write_bytes(os.urandom(size))
    return path
