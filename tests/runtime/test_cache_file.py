from __future__ import annotations

import os
from pathlib import Path

from edgevit.runtime.cache_file import read_cache, write_cache


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    assert read_cache(path) is None
    assert write_cache(path, b"content", most_files=3)
    assert read_cache(path) == b"content"
    assert write_cache(path, b"", most_files=3)
    assert read_cache(path) is None, "an empty file is a write that was cut off"


def test_oldest_files_make_room(tmp_path: Path) -> None:
    for index in range(5):
        path = tmp_path / str(index)
        write_cache(path, b"x", most_files=3)
        os.utime(path, (index, index))
    write_cache(tmp_path / "5", b"x", most_files=3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3", "4", "5"]


def test_file_that_cannot_be_written_leaves_the_old_one_and_no_other(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "file"
    write_cache(path, b"old", most_files=3)

    def refuse(*arguments: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", refuse)
    assert not write_cache(path, b"new", most_files=3)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert read_cache(path) == b"old"
