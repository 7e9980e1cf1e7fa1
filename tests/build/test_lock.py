from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgevit.build.lock import lock_output
from edgevit.core import file_lock
from edgevit.core.errors import OutputError

_HOLD = """
import sys
from edgevit.build.lock import lock_output
with lock_output(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def _hold_elsewhere(out: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_second_build_is_refused_naming_the_first(tmp_path: Path) -> None:
    with _hold_elsewhere(tmp_path / "out") as process:
        with pytest.raises(OutputError, match=f"process {process.pid}"), lock_output(tmp_path / "out"):
            pass
        process.communicate("")
    with lock_output(tmp_path / "out"):
        pass


def test_killed_build_leaves_no_lock(tmp_path: Path) -> None:
    with _hold_elsewhere(tmp_path / "out") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with lock_output(tmp_path / "out"):
        pass


def test_lock_is_freed_and_its_file_removed_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), lock_output(tmp_path / "out"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with lock_output(tmp_path / "out") as held:
        assert held.path.is_file()


def test_other_folders_are_not_locked(tmp_path: Path) -> None:
    with lock_output(tmp_path / "a"), lock_output(tmp_path / "b"):
        pass


def test_the_same_folder_by_another_path_is_locked(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with lock_output(tmp_path / "real"), pytest.raises(OutputError), lock_output(tmp_path / "link"):
        pass


def test_threads_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    inside, most = 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        done = 0
        while done < 20:
            try:
                with lock_output(tmp_path / "out"):
                    with guard:
                        inside += 1
                        most = max(most, inside)
                    with guard:
                        inside -= 1
                    done += 1
            except OutputError:
                continue

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"), lock_output(tmp_path / "file" / "out"):
        pass


def test_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int) -> bool:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(file_lock, "_try_lock", refuse)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(OutputError, match="not supported"), lock_output(tmp_path / "out"):
        pass
    assert before == (len(os.listdir("/proc/self/fd")) if before else 0)


def test_lock_is_not_taken_through_a_link_to_somebody_elses_file(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".out.edgevit-lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match="cannot be written"), lock_output(tmp_path / "out"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"
