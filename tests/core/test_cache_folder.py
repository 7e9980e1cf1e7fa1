"""Where the cache lies, and what in it is its own; the same on this machine and on a device."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

import edgevit
from edgevit.core.cache_folder import (
    CONTENTS,
    MARK_FILE,
    OWN_FOLDER,
    STAGES,
    claim_folder,
    default_cache_directory,
    find_own_folder,
)
from edgevit.core.errors import OutputError
from edgevit.remote import agent


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("EDGEVIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def find(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Path:
    """Where it lies with some variables: what both sides say."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = Path(os.path.abspath(default_cache_directory()))
    assert agent.find_root() == str(found / "device")
    return found


def test_variable_names_the_folder_and_an_empty_one_is_none(tmp_path, home, monkeypatch):
    assert find(monkeypatch) == home / ".cache" / "edgevit"
    assert find(monkeypatch, EDGEVIT_CACHE="") == home / ".cache" / "edgevit"
    assert find(monkeypatch, XDG_CACHE_HOME=str(tmp_path / "xdg")) == tmp_path / "xdg" / "edgevit"
    assert find(monkeypatch, XDG_CACHE_HOME="relative") == home / ".cache" / "edgevit"
    assert find(monkeypatch, EDGEVIT_CACHE=str(tmp_path / "own")) == tmp_path / "own"
    assert find(monkeypatch, EDGEVIT_CACHE="~/own") == home / "own"
    assert find(monkeypatch, EDGEVIT_CACHE="own") == tmp_path / "work" / "own"
    assert list(tmp_path.iterdir()) == [tmp_path / "work"], "looking writes nothing"


def test_user_without_a_home_is_told_the_variable(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(OutputError, match="no home") as caught:
        default_cache_directory()
    assert "EDGEVIT_CACHE" in caught.value.hint


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("names", "own"),
    [
        ((), True),
        (("export/", "tensorrt/", "device/"), True),  # of an earlier edgevit
        (("notes.txt", MARK_FILE), True),
        ((MARK_FILE,), True),
        (("notes.txt",), False),
        ((".git/",), False),
        (("export/", ".git/"), False),
        ((f"{MARK_FILE}/",), False),  # a folder is no mark
    ],
)
def test_folder_of_others_gets_one_of_edgevits_own(tmp_path, monkeypatch, names, own):
    folder = make(tmp_path / "named", "x")
    (folder / "x").unlink()
    make(folder, *names)
    assert find(monkeypatch, EDGEVIT_CACHE=str(folder)) == (folder if own else folder / OWN_FOLDER)


def test_folder_of_the_same_name_that_is_not_a_cache_is_left_alone(tmp_path, monkeypatch):
    folder = make(tmp_path / "named", "x", f"{OWN_FOLDER}/.git/HEAD")
    assert find(monkeypatch, EDGEVIT_CACHE=str(folder)) == folder / OWN_FOLDER / OWN_FOLDER
    claim_folder(folder / OWN_FOLDER / OWN_FOLDER)
    assert find(monkeypatch) == folder / OWN_FOLDER / OWN_FOLDER
    claim_folder(folder / OWN_FOLDER)
    assert find(monkeypatch) == folder / OWN_FOLDER


def test_user_folder_is_edgevits_by_its_name(home, monkeypatch):
    make(home / ".cache" / "edgevit", "notes.txt", "export/")
    assert find(monkeypatch) == home / ".cache" / "edgevit"


def test_named_folder_that_is_a_file_or_cannot_be_read_is_not_searched_for_another(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert find(monkeypatch, EDGEVIT_CACHE=str(tmp_path / "file")) == tmp_path / "file"

    def refuse(path: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    assert find_own_folder(tmp_path) == tmp_path


def test_folder_that_another_build_claims_at_this_moment_is_the_same_cache(tmp_path, monkeypatch):
    looked: list[Path] = []
    listdir = os.listdir

    def claim(path: Path) -> list[str]:
        if not looked:
            make(tmp_path / "named" / "export" / "KEY", "x")
            claim_folder(tmp_path / "named")
        looked.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", claim)
    assert find_own_folder(tmp_path / "named") == tmp_path / "named"
    looked.clear()
    (tmp_path / "named" / MARK_FILE).unlink()
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "named"))
    assert agent.find_root() == str(tmp_path / "named" / "device")


def test_mark_is_made_once_and_tells_its_reader(tmp_path):
    claim_folder(tmp_path / "deep" / "cache")
    mark = tmp_path / "deep" / "cache" / MARK_FILE
    assert "edgevit" in mark.read_text()
    mark.write_text("kept")
    claim_folder(tmp_path / "deep" / "cache")
    assert mark.read_text() == "kept"


def test_mark_is_not_written_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / MARK_FILE).symlink_to(tmp_path / "precious")
    claim_folder(tmp_path / "cache")
    assert (tmp_path / "precious").read_text() == "precious"


def test_device_and_desk_mark_each_others_folders(tmp_path, monkeypatch):
    folder = make(tmp_path / "named", "x")
    monkeypatch.setenv("EDGEVIT_CACHE", str(folder))
    assert agent.make_root() == str(folder / OWN_FOLDER / "device")
    make(folder / OWN_FOLDER, "y")
    assert find(monkeypatch) == folder / OWN_FOLDER


def test_agent_has_the_same_names(monkeypatch):
    assert (agent.MARK_FILE, agent.OWN_FOLDER, agent.CONTENTS) == (MARK_FILE, OWN_FOLDER, CONTENTS)


def test_every_stage_that_the_package_runs_is_in_the_table():
    run = set()
    for path in Path(edgevit.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("cache.run", "bench.cache.run"):
                run.add(ast.literal_eval(node.args[0]))
    assert run == set(STAGES)
