"""Builds that want the same stage at the same time: one makes it, the others wait, and none for ever."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevit.core import file_lock
from edgevit.core.cache import StageCache
from edgevit.core.cache_folder import MARK_FILE, list_locks
from edgevit.core.errors import CompileError
from edgevit.core.stage_turn import OUTSIDE, take_turn

# Makes a stage once the file "go" is there, and says what happens on the way.
_BUILD = """
import sys, time
from pathlib import Path
from edgevit.core.cache import StageCache

root = Path(sys.argv[1])

def produce(folder):
    print("making", flush=True)
    while not (root.parent / "go").exists():
        time.sleep(0.01)
    (folder / "file").write_text("made")

folder, found = StageCache(root, note=lambda text: print(text, flush=True)).run("export", {}, produce)
print((folder / "file").read_text(), found, flush=True)
"""


class Build:
    """A build in a process of its own."""

    def __init__(self, root: Path) -> None:
        command = [sys.executable, "-c", _BUILD, str(root)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def read(self) -> str:
        line = self.process.stdout.readline()
        assert line, f"it ended with {self.process.wait()}"
        return line.rstrip("\n")


@pytest.fixture
def start(tmp_path):
    builds: list[Build] = []

    def start() -> Build:
        builds.append(Build(tmp_path / "cache"))
        return builds[-1]

    yield start
    for build in builds:
        build.process.kill()
        build.process.communicate()


def write(text: str) -> Callable[[Path], None]:
    def produce(folder: Path) -> None:
        (folder / "file").write_text(text)

    return produce


def list_names(root: Path) -> list[str]:
    return sorted(p.name for p in root.rglob("*") if p.is_file() and p.name != MARK_FILE)


def test_two_processes_at_once_make_a_stage_once(tmp_path, start):
    first = start()
    assert first.read() == "making"
    second = start()
    assert second.read().startswith(f"waiting for another build's export (process {first.process.pid} on ")
    (tmp_path / "go").touch()
    assert first.read() == "made False"
    assert second.read() == "made True"
    assert list_names(tmp_path / "cache") == ["done.json", "file"]


def test_stage_of_a_killed_build_is_made_by_the_one_that_waited(tmp_path, start):
    first = start()
    assert first.read() == "making"
    second, third = start(), start()
    assert second.read().startswith("waiting")
    assert third.read().startswith("waiting")
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    (tmp_path / "go").touch()
    lines = [[line.rstrip("\n") for line in build.process.stdout] for build in (second, third)]
    assert sorted(lines) == [["made True"], ["making", "made False"]]
    assert list_names(tmp_path / "cache") == ["done.json", "file"]


def run_all(*work: Callable[[], object]) -> None:
    """Each in a thread of its own, which must end."""
    errors: list[BaseException] = []

    def call(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=call, args=(function,), daemon=True) for function in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "they wait for one another"
    if errors:
        raise errors[0]


def test_many_builds_make_each_stage_once(tmp_path):
    made, together = [], threading.Barrier(8)

    def build() -> None:
        cache = StageCache(tmp_path)
        together.wait(60)
        for n in range(3):

            def produce(folder: Path, n: int = n) -> None:
                made.append(n)
                time.sleep(0.1)
                (folder / "file").write_text(str(n))

            folder, _ = cache.run("export", {"n": n}, produce)
            assert (folder / "file").read_text() == str(n)

    run_all(*[build] * 8)
    assert sorted(made) == [0, 1, 2]
    assert list_locks(tmp_path) == []


def test_stage_that_fails_is_tried_by_the_next_one_and_leaves_no_lock(tmp_path):
    tried, together = [], threading.Barrier(2)

    def refuse(folder: Path) -> None:
        tried.append(folder)
        time.sleep(0.1)
        raise CompileError("refused", "")

    def build() -> None:
        cache = StageCache(tmp_path)
        together.wait(60)
        with pytest.raises(CompileError):
            cache.run("engine", {}, refuse)

    run_all(build, build)
    assert len(tried) == 2
    assert list_names(tmp_path) == []


def test_stages_inside_one_another_are_waited_for_in_the_order_of_the_table_only(tmp_path):
    """Both builds have what the other one wants, so that one of them must not wait."""
    both, made = threading.Barrier(2), []

    def make(name: str, inner: str = "") -> Callable[[Path], None]:
        def produce(folder: Path) -> None:
            if inner:
                both.wait(60)
                StageCache(tmp_path).run(inner, {}, make(f"{inner} in {name}"))
            made.append(name)
            (folder / "file").write_text(name)

        return produce

    run_all(
        lambda: StageCache(tmp_path).run("set_back", {}, make("set_back", "engine")),
        lambda: StageCache(tmp_path).run("engine", {}, make("engine", "set_back")),
    )
    assert sorted(made) == ["engine", "set_back", "set_back in engine"]
    assert list_locks(tmp_path) == []


def test_process_that_a_stage_starts_does_not_wait_for_it(tmp_path):
    outer = StageCache(tmp_path)

    def produce(folder: Path) -> None:
        given = pickle.loads(pickle.dumps(outer))
        run_all(lambda: given.run("export", {}, write("inner")))
        (folder / "file").write_text("outer")

    folder, found = outer.run("export", {}, produce)
    assert ((folder / "file").read_text(), found) == ("inner", True)


def test_after_a_stage_its_thread_waits_again(tmp_path):
    StageCache(tmp_path).run("portable", {}, lambda folder: None)
    making, go, notes = threading.Event(), threading.Event(), []

    def produce(folder: Path) -> None:
        making.set()
        assert go.wait(60)

    def tell(text: str) -> None:
        notes.append(text)
        go.set()

    def wait() -> None:
        assert making.wait(60)
        cache = StageCache(tmp_path, note=tell)
        cache.run("portable", {}, produce)  # it is there
        assert cache.run("export", {}, produce)[1]

    run_all(lambda: StageCache(tmp_path).run("export", {}, produce), wait)
    assert len(notes) == 1


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_each_build_makes_the_stage_and_the_faster_one_wins(tmp_path, monkeypatch, number):
    def refuse(handle: int) -> bool:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(file_lock, "_try_lock", refuse)
    both, made, results = threading.Barrier(2), [], []

    def produce(folder: Path) -> None:
        both.wait(60)
        made.append(folder)
        (folder / "file").write_text("made")

    def build() -> None:
        results.append(StageCache(tmp_path).run("export", {}, produce))

    run_all(build, build)
    assert len(made) == 2
    assert len({folder for folder, _ in results}) == 1
    assert list_names(tmp_path) == ["done.json", "file"]


def test_who_waits_for_a_damaged_stage_does_not_take_it_for_the_new_one(tmp_path):
    folder, _ = StageCache(tmp_path).run("export", {}, write("four"))
    (folder / "file").write_text("fo")
    making, go, made = threading.Event(), threading.Event(), []

    def produce(folder: Path) -> None:
        made.append(folder)
        making.set()
        assert go.wait(60)
        (folder / "file").write_text("four")

    def wait() -> None:
        assert making.wait(60)
        assert StageCache(tmp_path, note=lambda text: go.set()).run("export", {}, produce) == (folder, True)

    run_all(lambda: StageCache(tmp_path).run("export", {}, produce), wait)
    assert len(made) == 1
    assert (folder / "file").read_text() == "four"


def test_stage_that_is_made_is_not_waited_for_until_its_lock_is_free(tmp_path):
    """Those that waited check its files side by side, not one after the other."""
    path, told, done = tmp_path / "lock", [], threading.Event()

    def tell(holder: str) -> None:
        told.append(holder)
        done.set()

    def wait() -> None:
        with take_turn(path, 0, inside=OUTSIDE, is_made=done.is_set, tell=tell):
            pass

    with take_turn(path, 0, inside=OUTSIDE, is_made=lambda: False, tell=tell):
        run_all(wait, wait)
        assert path.exists()
    assert told
    assert not path.exists()


def test_locks_of_killed_builds_are_cleared_once_they_are_old_and_no_others(tmp_path):
    folder, old = tmp_path / "export", time.time() - 2 * 24 * 3600
    StageCache(tmp_path).run("export", {}, lambda folder: None)
    killed, young, held, link = (folder / f".{digit * 32}.lock" for digit in "0123")
    others = [folder / ".mine.lock", tmp_path / killed.name, folder / f"{killed.name}x"]
    for path in (killed, young, *others):
        path.touch()
    (tmp_path / "precious").touch()
    link.symlink_to(tmp_path / "precious")
    with take_turn(held, 0, inside=OUTSIDE, is_made=lambda: False, tell=print):
        for path in (killed, held, *others, tmp_path / "precious"):
            os.utime(path, (old, old))
        StageCache(tmp_path).run("engine", {}, lambda folder: None)
        assert [p.exists() for p in (killed, young, held, link)] == [False, True, True, True]
    assert all(path.exists() for path in (*others, tmp_path / "precious"))


def test_stage_that_another_build_reads_stays_where_only_what_may_be_written_is_locked(tmp_path, monkeypatch):
    """As on NFS, where ``flock`` is a lock on a range of bytes."""
    fcntl = pytest.importorskip("fcntl")
    flock = fcntl.flock

    def as_nfs(file: int, operation: int) -> None:
        writes = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        if operation & fcntl.LOCK_EX and not writes:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", as_nfs)
    other = StageCache(tmp_path)
    folder, _ = other.run("export", {}, write("in use"))
    StageCache(tmp_path, limit_bytes=1).run("engine", {}, lambda folder: None)
    assert (folder / "file").read_text() == "in use"
    del other
    StageCache(tmp_path, limit_bytes=1).run("engine", {"a": 1}, lambda folder: None)
    assert not folder.exists()
