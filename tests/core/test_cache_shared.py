"""Finished stages in a place that other machines see: found there, put there, and never a reason to fail."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevit.core.cache import StageCache
from edgevit.core.errors import MissingPackageError, OutputError

fsspec = pytest.importorskip("fsspec")
MemoryFileSystem: Any = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem


@pytest.fixture(autouse=True)
def no_shared_cache(monkeypatch):
    monkeypatch.delenv("EDGEVIT_SHARED_CACHE", raising=False)


@pytest.fixture(params=["memory://{}", "file://{}", "{}"])
def url(request, tmp_path):
    return request.param.format(tmp_path / "shared")


def write(text: str) -> Callable[[Path], None]:
    def produce(folder: Path) -> None:
        (folder / "below").mkdir()
        (folder / "below" / "file").write_text(text)

    return produce


def fail(folder: Path) -> None:
    raise AssertionError("the stage ran again")


def list_shared(url: str) -> list[str]:
    files, root = fsspec.core.url_to_fs(url)
    return sorted(path.removeprefix(root) for path in files.find(root))


def test_stage_is_found_from_another_folder_and_is_there_from_then_on(tmp_path, url):
    notes: list[str] = []
    made, found = StageCache(tmp_path / "one", shared=url, note=notes.append).run("export", {"a": 1}, write("text"))
    assert not found
    fetched, found = StageCache(tmp_path / "two", shared=url, note=notes.append).run("export", {"a": 1}, fail)
    assert found
    assert fetched == tmp_path / "two" / made.relative_to(tmp_path / "one")
    assert (fetched / "below" / "file").read_text() == "text"
    assert (fetched / "done.json").read_bytes() == (made / "done.json").read_bytes()
    assert StageCache(tmp_path / "two", shared="").run("export", {"a": 1}, fail) == (fetched, True)
    assert list_shared(url) == [f"/export/{made.name}.tar"]
    assert sorted(p.name for p in (tmp_path / "two" / "export").iterdir()) == [made.name]
    assert sorted(p.name for p in (tmp_path / "one" / "export").iterdir()) == [made.name]
    assert notes == []


def test_other_inputs_are_not_found(tmp_path, url):
    StageCache(tmp_path / "one", shared=url).run("export", {"a": 1}, write("one"))
    folder, found = StageCache(tmp_path / "two", shared=url).run("export", {"a": 2}, write("two"))
    assert not found
    assert (folder / "below" / "file").read_text() == "two"
    assert len(list_shared(url)) == 2


def test_variable_names_the_place_and_an_empty_argument_means_none(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEVIT_SHARED_CACHE", str(tmp_path / "shared"))
    StageCache(tmp_path / "one", shared="").run("export", {}, write("text"))
    assert not (tmp_path / "shared").exists()
    StageCache(tmp_path / "two").run("export", {}, write("text"))
    assert len(list_shared(str(tmp_path / "shared"))) == 1
    monkeypatch.setenv("EDGEVIT_SHARED_CACHE", "")
    assert not StageCache(tmp_path / "three").run("export", {}, write("text"))[1]


def test_folder_by_a_relative_path_stays_the_same_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = StageCache(tmp_path / "one", shared="shared")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    pickle.loads(pickle.dumps(cache)).run("export", {}, write("text"))
    assert len(list_shared(str(tmp_path / "shared"))) == 1


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "evil"])
def test_damaged_archive_is_said_made_again_and_replaced(tmp_path, url, damage):
    made, _ = StageCache(tmp_path / "one", shared=url).run("export", {}, write("text" * 1000))
    files, root = fsspec.core.url_to_fs(url)
    path = f"{root}/export/{made.name}.tar"
    content = files.cat_file(path)
    spoiled = {
        "cut": content[:3000],
        "flip": bytes([*content[:4000], content[4000] ^ 1, *content[4001:]]),
        "empty": b"",
    }
    files.pipe_file(path, spoiled.get(damage, content.replace(b'"below/file"', b'"../../../x"')))
    notes: list[str] = []
    folder, found = StageCache(tmp_path / "two", shared=url, note=notes.append).run("export", {}, write("again"))
    assert not found
    assert (folder / "below" / "file").read_text() == "again"
    assert len(notes) == 1
    assert f"export/{made.name}.tar that is not used" in notes[0]
    assert StageCache(tmp_path / "three", shared=url).run("export", {}, fail)[1]
    assert sorted(p.name for p in (tmp_path / "two" / "export").iterdir()) == [made.name]
    assert not list(tmp_path.rglob("x"))


@pytest.fixture
def register(monkeypatch):
    """Makes a kind of store, with some methods of its own, which is forgotten after the test."""

    def register(name: str, **methods: Any) -> Any:
        def strip(cls: type, path: str) -> str:
            return str(MemoryFileSystem._strip_protocol(path.removeprefix(f"{name}://")))

        own = {"protocol": name, "cachable": False, "store": {}, "_strip_protocol": classmethod(strip)}
        kind = type(f"Store{name}", (MemoryFileSystem,), {**own, **methods})
        monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, name, kind)
        return kind

    return register


def refuse(error: Exception, calls: list[str]) -> Callable[..., Any]:
    def method(self: object, path: str, *args: object, **kwargs: object) -> None:
        calls.append(path)
        raise error

    return method


class StrangeError(Exception):
    """Not of Python's: what libraries of object stores raise."""


@pytest.mark.parametrize("error", [ConnectionError("no route"), PermissionError("denied"), StrangeError("no route")])
def test_store_out_of_reach_is_said_once_and_the_build_goes_on(tmp_path, register, error):
    calls: list[str] = []
    register("faraway", open=refuse(error, calls), put_file=refuse(error, calls))
    notes: list[str] = []
    cache = StageCache(tmp_path, shared="faraway://me:secret@host/x", note=notes.append)
    for n in range(3):
        folder, found = cache.run("export", {"n": n}, write("text"))
        assert not found
        assert (folder / "below" / "file").read_text() == "text"
    assert len(calls) == 1, "each call may wait for a minute"
    assert len(notes) == 1
    assert "goes on without it" in notes[0]
    assert str(error) in notes[0]
    assert "secret" not in notes[0]
    pickle.loads(pickle.dumps(cache)).run("export", {"n": 4}, write("text"))
    assert len(calls) == 1, "processes of this build need not find out"


def test_store_that_breaks_off_is_no_damaged_archive(tmp_path, register):
    register("tearing")
    made, _ = StageCache(tmp_path / "one", shared="tearing://x").run("export", {}, write("text"))

    class Torn:
        def __init__(self, *args: object, **kwargs: object) -> None:
            self.left = 700

        def read(self, count: int) -> bytes:
            self.left -= count
            if self.left < 0:
                raise StrangeError("connection reset")
            return bytes(fsspec.filesystem("tearing").cat_file(f"/x/export/{made.name}.tar")[:count])

        def __enter__(self) -> Torn:
            return self

        def __exit__(self, *args: object) -> None:
            pass

    store = fsspec.get_filesystem_class("tearing").store
    register("tearing", open=Torn, store=store)
    notes: list[str] = []
    folder, found = StageCache(tmp_path / "two", shared="tearing://x", note=notes.append).run(
        "export", {}, write("two")
    )
    assert not found
    assert (folder / "below" / "file").read_text() == "two"
    assert [("goes on without it: connection reset" in note) for note in notes] == [True]


def test_store_that_takes_nothing_is_said_once_and_is_still_read(tmp_path, register):
    calls: list[str] = []
    kind = register("readonly")
    StageCache(tmp_path / "one", shared="readonly://x").run("export", {"n": 0}, write("text"))
    register("readonly", put_file=refuse(PermissionError("denied"), calls), store=kind.store)
    notes: list[str] = []
    cache = StageCache(tmp_path / "two", shared="readonly://x", note=notes.append)
    assert [cache.run("export", {"n": n}, write("text"))[1] for n in (1, 2, 0)] == [False, False, True]
    assert len(calls) == 1
    assert len(notes) == 1
    assert "cannot be written" in notes[0]
    assert "denied" in notes[0]


def test_upload_that_breaks_off_leaves_no_archive(tmp_path, register):
    def put_half(self: Any, local: str, path: str, **kwargs: object) -> None:
        self.pipe_file(path, Path(local).read_bytes()[:1000])
        raise StrangeError("connection reset")

    kind = register("halfway", put_file=put_half)
    StageCache(tmp_path, shared="halfway://x").run("export", {}, write("text"))
    assert kind.store == {}


def test_object_store_gets_one_put_under_the_last_name_and_no_folders(tmp_path, register):
    calls: list[str] = []
    never = refuse(AssertionError("not on an object store"), calls)

    def put(self: Any, local: str, path: str) -> None:
        self.pipe_file(path, Path(local).read_bytes())

    kind = register("adl", mv=never, makedirs=never, put_file=put)
    made, _ = StageCache(tmp_path, shared="adl://bucket/prefix/").run("export", {}, write("text"))
    assert calls == []
    assert list(kind.store) == [f"/bucket/prefix/export/{made.name}.tar"]


def test_archive_of_a_faster_build_is_not_put_again(tmp_path, register):
    kind = register("once")

    def beside(folder: Path) -> None:
        StageCache(tmp_path / "other", shared="once://x").run("export", {}, write("first"))
        calls.clear()
        write("second")(folder)

    calls: list[str] = []
    put_file = kind.put_file

    def count(self: Any, local: str, path: str, **kwargs: object) -> None:
        calls.append(path)
        put_file(self, local, path, **kwargs)

    kind.put_file = count
    folder, found = StageCache(tmp_path / "own", shared="once://x").run("export", {}, beside)
    assert not found
    assert (folder / "below" / "file").read_text() == "second"
    assert calls == []


def test_place_that_nobody_knows_and_packages_that_are_missing_are_errors_with_a_hint(tmp_path, monkeypatch):
    with pytest.raises(OutputError, match=r"nowhere://…@x is of no kind that fsspec knows") as caught:
        StageCache(tmp_path, shared="nowhere://me:secret@x")
    assert "EDGEVIT_SHARED_CACHE" in caught.value.hint

    def lack(protocol: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", lack)
    with pytest.raises(MissingPackageError, match="Install s3fs"):
        StageCache(tmp_path, shared="s3://bucket")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingPackageError, match="a shared cache needs fsspec") as missing:
        StageCache(tmp_path, shared="s3://bucket")
    assert "[sweep]" in missing.value.hint


def test_fsspec_is_imported_only_for_a_shared_cache(tmp_path):
    text = (
        "import sys; from pathlib import Path; from edgevit.core.cache import StageCache\n"
        "StageCache(Path(sys.argv[1])).run('export', {}, lambda folder: None)\n"
        "assert 'fsspec' not in sys.modules\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "EDGEVIT_SHARED_CACHE"}
    subprocess.run([sys.executable, "-c", text, str(tmp_path)], check=True, env=environment)
