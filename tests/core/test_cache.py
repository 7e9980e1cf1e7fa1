"""Stages are found again by what they depend on, and never half done."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edgevit.core.cache import StageCache, _count_bytes
from edgevit.core.cache_folder import MARK_FILE
from edgevit.core.errors import CompileError, OutputError


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


def test_other_code_runs_again_and_what_is_not_its_code_does_not(tmp_path, monkeypatch):
    counted = []

    def hash_source(*modules):
        counted.append(modules)
        return code

    monkeypatch.setattr("edgevit.core.cache.hash_source", hash_source)
    code = "one"
    folder, _ = StageCache(tmp_path).run("export", {}, write("one"))
    assert StageCache(tmp_path).run("export", {}, fail) == (folder, True)
    code = "two"
    assert not StageCache(tmp_path).run("export", {}, write("two"))[1]
    assert set(counted) == {(__name__, "edgevit.checkpoints", "edgevit.models.select_task")}


def test_failed_stage_leaves_nothing_and_runs_again(tmp_path):
    cache = StageCache(tmp_path)

    def die(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise CompileError("refused", "")

    with pytest.raises(CompileError):
        cache.run("engine", {}, die)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [MARK_FILE]
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


def test_a_stage_that_no_build_runs_any_more_makes_room(tmp_path):
    folder = tmp_path / "fp8" / ("a" * 32)
    folder.mkdir(parents=True)
    (folder / "done.json").write_text("{}")
    cache = StageCache(tmp_path, limit_bytes=1)
    assert cache.root == tmp_path, "a cache of an earlier version, which made no mark"
    cache.run("export", {}, write("one"))
    assert not folder.exists()


def test_a_stage_is_measured_once_until_another_takes_its_place(tmp_path, monkeypatch):
    """A cache of two gigabytes has thousands of files, and each stage of a build looks for room."""
    measured: list[str] = []

    def count(folder: Path) -> int:
        measured.append(folder.name)
        return _count_bytes(folder)

    monkeypatch.setattr("edgevit.core.cache._count_bytes", count)
    cache = StageCache(tmp_path)
    made = [cache.run("export", {"n": n}, write("x" * 1000))[0] for n in range(4)]
    assert sorted(measured) == sorted(folder.name for folder in made)
    del cache
    (made[0] / "file").write_text("half")
    cache = StageCache(tmp_path, limit_bytes=11_000)
    cache.run("export", {"n": 0}, write("x" * 8000))  # made again, and larger
    assert measured[4:] == [made[0].name]
    assert sum(folder.exists() for folder in made) < 4


def test_stages_of_the_running_build_stay_also_above_the_limit(tmp_path):
    earlier, cache = StageCache(tmp_path), StageCache(tmp_path, limit_bytes=1500)
    old, _ = earlier.run("export", {"n": 0}, write("x" * 1000))
    del earlier
    stages = [cache.run(stage, {}, write("x" * 1000))[0] for stage in ("export", "optimize", "quantize")]
    assert [p.exists() for p in (old, *stages)] == [False, True, True, True]


def test_half_stage_of_a_killed_build_is_cleared_once_it_is_old(tmp_path):
    old, running, earlier = f".{'0' * 32}.12ab34ef", f".{'1' * 32}.12ab34ef", f".{'2' * 32}.4711"
    for name, age in ((old, 2 * 24 * 3600), (running, 60), (earlier, 2 * 24 * 3600)):
        folder = tmp_path / "export" / name
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - age, time.time() - age))
    StageCache(tmp_path).run("export", {}, write("one"))
    assert [p.name for p in (tmp_path / "export").glob(".*")] == [running]


def test_limit_that_is_no_number_is_an_error(monkeypatch):
    monkeypatch.setenv("EDGEVIT_CACHE_BYTES", "8 GB")
    with pytest.raises(OutputError, match="EDGEVIT_CACHE_BYTES = '8 GB'"):
        StageCache()
    monkeypatch.setenv("EDGEVIT_CACHE_BYTES", "")
    assert StageCache().limit_bytes > 0


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
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [MARK_FILE]


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


OLD = time.time() - 2 * 24 * 3600


def plant(folder: Path, *names: str) -> dict[str, bytes]:
    """Files of somebody else's, in folders that nobody has touched for two days; what :func:`read_all` gives then."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"precious {name}")
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (OLD, OLD))
    return read_all(folder)


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


OTHERS = (
    ".git/HEAD",
    "sub/.venv/bin/python",
    "sub/.git/HEAD",
    "export/.cache/x",
    "export/mine/done.json",
    f"export/{'a' * 32}/done.json",
    f"export/.{'a' * 32}.12ab/x",
    f"mine/{'b' * 32}/done.json",
    "notes.txt",
)


@pytest.mark.parametrize("named", ["", ".", "{folder}", "{folder}/", "~"])
def test_folder_of_somebody_elses_files_keeps_all_of_them(tmp_path, monkeypatch, named):
    folder, home = tmp_path / "work", tmp_path / "home"
    before = {f: plant(f, *OTHERS) for f in (folder, home)}
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("EDGEVIT_CACHE", named.format(folder=folder))
    cache = StageCache(limit_bytes=1)
    for n in range(3):
        cache.run("export", {"n": n}, write("x" * 100))
    for place, files in before.items():
        after = read_all(place)
        assert {name: after.get(name) for name in files} == files
        made = {name.split("/export/")[0] for name in after.keys() - files.keys() if MARK_FILE not in name}
        assert made <= {"edgevit-cache", ".cache/edgevit"}


def test_cache_that_became_a_repository_keeps_it_and_what_lies_beside_its_stages(tmp_path):
    StageCache(tmp_path, limit_bytes=1).run("export", {}, write("one"))
    others = (".git/HEAD", "mine/.venv/x", "export/.git/HEAD", "export/mine/done.json", f"x/{'a' * 32}/done.json")
    files = plant(tmp_path, *others)
    files = {name: content for name, content in files.items() if name in others}
    cache = StageCache(tmp_path, limit_bytes=1)
    folder, _ = cache.run("engine", {}, write("two"))
    assert folder.parent == tmp_path / "engine", "it has its mark"
    after = read_all(tmp_path)
    assert {name: after.get(name) for name in files} == files
    assert not [name for name in after if name.startswith("export/") and name not in files], "its own made room"


@pytest.mark.parametrize("linked", ["stage", "finished", "partial"])
def test_what_lies_behind_a_link_is_not_removed(tmp_path, linked):
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "cache"
    key = "a" * 32
    files = plant(elsewhere, f"{key}/done.json", f"{key}/file", f".{key}.12ab/file")
    (root / "export").mkdir(parents=True)
    if linked == "stage":
        (root / "export").rmdir()
        (root / "export").symlink_to(elsewhere)
    elif linked == "finished":
        (root / "export" / key).symlink_to(elsewhere / key)
    else:
        (root / "export" / f".{key}.12ab").symlink_to(elsewhere / f".{key}.12ab")
    StageCache(root, limit_bytes=1).run("engine", {}, write("makes room"))
    assert read_all(elsewhere) == files


def test_damaged_stage_behind_a_link_is_an_error_and_is_not_removed(tmp_path):
    root, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    folder, _ = StageCache(root).run("export", {}, write("four"))
    (folder / "file").write_text("fo")
    (root / "export").rename(elsewhere)
    (root / "export").symlink_to(elsewhere)
    with pytest.raises(OutputError, match="cannot be written"):
        StageCache(root).run("export", {}, write("four"))
    assert (folder / "file").read_text() == "fo"


def test_cache_that_is_a_file_is_an_error_and_stays(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("precious")
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"file cannot be written: Not a directory"):
        StageCache().run("export", {}, write("one"))
    assert (tmp_path / "file").read_text() == "precious"


def test_stage_that_would_never_make_room_is_refused(tmp_path):
    with pytest.raises(ValueError, match="STAGES"):
        StageCache(tmp_path).run("novel", {}, write("one"))


def test_stages_that_another_build_removes_meanwhile_are_no_error(tmp_path, monkeypatch):
    gone, _ = StageCache(tmp_path).run("export", {}, write("one"))
    monkeypatch.setattr("edgevit.core.cache.list_finished", lambda root: [gone, tmp_path / "export" / ("f" * 32)])
    monkeypatch.setattr("edgevit.core.cache.list_partial", lambda root: [tmp_path / "export" / f".{'f' * 32}.1"])
    assert StageCache(tmp_path, limit_bytes=1).run("engine", {}, write("two"))[0].is_dir()


@pytest.mark.parametrize("position", [0, 500, 999])
def test_stage_with_a_flipped_bit_runs_again(tmp_path, position):
    def produce(folder):
        (folder / "below").mkdir()
        (folder / "below" / "engine.bin").write_bytes(bytes(1000))

    folder, _ = StageCache(tmp_path).run("export", {"a": 1}, produce)
    content = bytearray(1000)
    content[position] = 1
    (folder / "below" / "engine.bin").write_bytes(content)
    again, found = StageCache(tmp_path).run("export", {"a": 1}, produce)
    assert (again, found) == (folder, False)
    assert (folder / "below" / "engine.bin").read_bytes() == bytes(1000)
    assert StageCache(tmp_path).run("export", {"a": 1}, produce) == (folder, True)


def test_stage_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    done, replace, sync = [], os.replace, os.fsync

    def note_sync(number):
        done.append("sync")
        sync(number)

    def note_replace(old, new):
        done.append("name")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    StageCache(tmp_path).run("export", {}, write("x"))
    assert done == ["sync", "sync", "name"]
