from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from edgevit.core.cache_folder import MARK_FILE
from edgevit.runtime.cache_file import is_cache_name, read_cache, write_cache

FOLDER = "tensorrt/timing"


def name(version: int) -> str:
    return f"{FOLDER}/{version}.0-Orin-8.7-8.cache"


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / name(1)
    assert read_cache(path) is None
    assert write_cache(tmp_path, name(1), b"content", most_files=3)
    assert read_cache(path) == b"content"
    assert (tmp_path / MARK_FILE).is_file()
    assert write_cache(tmp_path, name(1), b"", most_files=3)
    assert read_cache(path) is None, "an empty file is a write that was cut off"


def write_six(root: Path) -> list[int]:
    """The versions that are left of six, of which three may stay."""
    for version in range(5):
        write_cache(root, name(version), b"x", most_files=3)
        os.utime(root / name(version), (version, version))
    write_cache(root, name(5), b"x", most_files=3)
    return [version for version in range(6) if (root / name(version)).exists()]


def test_oldest_files_make_room(tmp_path: Path) -> None:
    assert write_six(tmp_path) == [3, 4, 5]


def test_files_that_the_cache_does_not_make_stay(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    (folder / ".git").mkdir(parents=True)
    others = ["notes.txt", "mine.cache", ".hidden", "10.3.0-Orin.bin", ".mine.cache.12ab", "-rf.cache"]
    for other in (".git/HEAD", *others):
        (folder / other).write_text("precious")
    killed, running = folder / f".{Path(name(7)).name}.4711", folder / f".{Path(name(8)).name}.12ab34ef"
    killed.write_text("half")
    (tmp_path / "precious").write_text("precious")
    (folder / "9.0-link.cache").symlink_to(tmp_path / "precious")
    for path in folder.rglob("*"):
        os.utime(path, (0, 0), follow_symlinks=False)
    running.write_text("half")
    assert write_six(tmp_path) == [3, 4, 5]
    assert {p.name for p in folder.iterdir()} == {
        *(Path(name(version)).name for version in (3, 4, 5)), ".git", *others, running.name, "9.0-link.cache"
    }  # fmt: skip
    assert (folder / ".git" / "HEAD").exists()
    assert not killed.exists()
    assert time.time() - running.stat().st_mtime < 3600


@pytest.mark.parametrize("link", ["tensorrt", FOLDER])
def test_nothing_is_removed_behind_a_link(tmp_path: Path, link: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "timing").mkdir(parents=True)
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(elsewhere if link == "tensorrt" else elsewhere / "timing")
    assert write_six(tmp_path) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("tensorrt/timing/10.3.0-Orin-8.7-8.cache", True),
        ("tensorrt_rtx/kernels/1.7.1-NVIDIA-GeForce-RTX-3060-0123456789abcdef.bin", True),
        ("tensorrt_rtx/kernels/1.7.1-NVIDIA-GeForce-RTX-3060.bin", False),
        ("tensorrt/timing/mine.cache", False),
        ("tensorrt/timing/10.3.0-Orin/../../x.cache", False),
        ("tensorrt/elsewhere/10.3.0-Orin-8.7-8.cache", False),
        ("10.3.0-Orin-8.7-8.cache", False),
    ],
)
def test_names_are_those_that_the_cache_makes(path: str, own: bool, tmp_path: Path) -> None:
    assert is_cache_name(path) == own
    if not own:
        with pytest.raises(ValueError, match="NAMES"):
            write_cache(tmp_path, path, b"x", most_files=3)
        assert list(tmp_path.iterdir()) == []


def test_file_that_cannot_be_written_leaves_the_old_one_and_no_other(tmp_path: Path, monkeypatch) -> None:
    write_cache(tmp_path, name(1), b"old", most_files=3)

    def refuse(*arguments: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", refuse)
    assert not write_cache(tmp_path, name(1), b"new", most_files=3)
    assert [p.name for p in (tmp_path / FOLDER).iterdir()] == [Path(name(1)).name]
    assert read_cache(tmp_path / name(1)) == b"old"
