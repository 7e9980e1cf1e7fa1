"""Stages are found again by what they depend on, and never half done."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edgevit.cache import StageCache, default_cache_directory
from edgevit.errors import CompileError, OutputError


def write(text: str):
    def produce(folder: Path) -> None:
        (folder / "file").write_text(text)

    return produce


def fail(folder: Path) -> None:
    raise AssertionError("the stage ran again")


def test_equal_inputs_find_the_finished_stage(tmp_path):
    cache = StageCache(tmp_path)
    first, was_there = cache.run("export", {"a": 1, "b": [2]}, write("one"))
    assert not was_there
    again, was_there = StageCache(tmp_path).run("export", {"b": [2], "a": 1}, fail)
    assert was_there
    assert again == first
    assert (again / "file").read_text() == "one"


@pytest.mark.parametrize(("stage", "inputs"), [("optimize", {"a": 1}), ("export", {"a": 2}), ("export", {})])
def test_other_inputs_or_another_stage_run_again(tmp_path, stage, inputs):
    cache = StageCache(tmp_path)
    cache.run("export", {"a": 1}, write("one"))
    folder, was_there = cache.run(stage, inputs, write("two"))
    assert not was_there
    assert (folder / "file").read_text() == "two"


def test_failed_stage_leaves_nothing_and_runs_again(tmp_path):
    cache = StageCache(tmp_path)

    def die(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise CompileError("refused", "")

    with pytest.raises(CompileError):
        cache.run("engine", {}, die)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    _, was_there = cache.run("engine", {}, write("whole"))
    assert not was_there


def test_stage_with_a_truncated_file_runs_again(tmp_path):
    cache = StageCache(tmp_path)
    folder, _ = cache.run("export", {}, write("four"))
    (folder / "file").write_text("fo")
    folder, was_there = cache.run("export", {}, write("four"))
    assert not was_there
    assert (folder / "file").read_text() == "four"


def test_least_recently_used_stages_make_room(tmp_path):
    earlier, cache = StageCache(tmp_path), StageCache(tmp_path, limit_bytes=3000)
    old, _ = earlier.run("export", {"n": 0}, write("x" * 1000))
    used, _ = earlier.run("export", {"n": 1}, write("x" * 1000))
    past = time.time() - 100
    os.utime(old, (past, past))
    os.utime(used, (past - 1, past - 1))
    del earlier
    cache.run("export", {"n": 1}, fail)  # now the most recent
    new, _ = cache.run("export", {"n": 2}, write("x" * 1000))
    assert [p.exists() for p in (old, used, new)] == [False, True, True]


def test_stages_of_the_running_build_stay_also_above_the_limit(tmp_path):
    earlier, cache = StageCache(tmp_path), StageCache(tmp_path, limit_bytes=1500)
    old, _ = earlier.run("export", {"n": 0}, write("x" * 1000))
    del earlier
    stages = [cache.run(stage, {}, write("x" * 1000))[0] for stage in ("export", "optimize", "quantize")]
    assert [p.exists() for p in (old, *stages)] == [False, True, True, True]


def test_half_stage_of_a_killed_build_is_cleared_once_it_is_old(tmp_path):
    for name, age in ((".old.1", 2 * 24 * 3600), (".running.2", 60)):
        folder = tmp_path / "export" / name
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - age, time.time() - age))
    StageCache(tmp_path).run("export", {}, write("one"))
    assert sorted(p.name for p in (tmp_path / "export").glob(".*")) == [".running.2"]


def test_limit_that_is_no_number_is_an_error(monkeypatch):
    monkeypatch.setenv("EDGEVIT_CACHE_BYTES", "8 GB")
    with pytest.raises(OutputError, match="EDGEVIT_CACHE_BYTES = '8 GB'"):
        StageCache()


def test_cache_that_cannot_be_written_is_an_error_with_its_variable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError) as caught:
        StageCache(tmp_path / "file" / "cache").run("export", {}, write("one"))
    assert "EDGEVIT_CACHE" in caught.value.hint


def test_full_disk_is_named(tmp_path):
    def fill(folder: Path) -> None:
        with open("/dev/full", "w") as stream:
            stream.write("x" * 10_000)

    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with pytest.raises(OutputError, match="the disk is full") as caught:
        StageCache(tmp_path).run("export", {}, fill)
    assert caught.value.hint.startswith("make room, or ")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_cache_that_must_not_be_written_is_no_matter_of_room(tmp_path, monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match="cannot be written: Permission denied") as caught:
        StageCache(tmp_path / "locked").run("export", {}, write("one"))
    assert caught.value.hint == "check its permissions, or set EDGEVIT_CACHE to a folder elsewhere"


def test_cache_below_a_file_is_no_matter_of_room(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Not a directory") as caught:
        StageCache(tmp_path / "file" / "cache").run("export", {}, write("one"))
    assert "room" not in caught.value.hint
    assert "EDGEVIT_CACHE" in caught.value.hint


def test_directory_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("EDGEVIT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_directory() == tmp_path / "edgevit"
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "own"))
    assert default_cache_directory() == tmp_path / "own"


def test_stages_that_another_build_reads_stay_until_it_ends(tmp_path):
    other = StageCache(tmp_path)
    folder, _ = other.run("export", {}, write("in use"))
    StageCache(tmp_path, limit_bytes=1).run("engine", {}, write("makes room"))
    assert (folder / "file").read_text() == "in use"
    del other
    StageCache(tmp_path, limit_bytes=1).run("engine", {"a": 1}, write("makes room"))
    assert not folder.exists()


def test_stage_that_another_build_finished_meanwhile_is_taken_and_not_replaced(tmp_path):
    read: list[Path] = []

    def slowly(folder: Path) -> None:
        read.append(StageCache(tmp_path).run("export", {}, write("first"))[0])
        inode.append((read[0] / "file").stat().st_ino)
        (folder / "file").write_text("second")

    inode: list[int] = []
    folder, was_there = StageCache(tmp_path).run("export", {}, slowly)
    assert folder == read[0]
    assert was_there
    assert (folder / "file").stat().st_ino == inode[0]
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_two_builds_of_one_process_number_make_the_same_stage_side_by_side(tmp_path):
    """As in two containers that share the cache's volume, where both are process 1."""

    def beside(folder: Path) -> None:
        StageCache(tmp_path).run("export", {}, write("inner"))
        (folder / "file").write_text("outer")

    folder, _ = StageCache(tmp_path).run("export", {}, beside)
    assert (folder / "file").read_text() == "inner"


def test_finished_stages_of_a_cache_that_is_read_only_are_taken(tmp_path, monkeypatch):
    folder, _ = StageCache(tmp_path).run("export", {}, write("one"))

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "utime", refuse)
    assert StageCache(tmp_path).run("export", {}, fail) == (folder, True)
