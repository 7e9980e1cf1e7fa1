"""What is kept of a compiled engine, and all that is not taken."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edgevit.runtime import compiled_file
from edgevit.runtime.compiled_file import HEADER_BYTES, can_keep, read_compiled, write_compiled, write_key

CONTENT = bytes(range(256)) * 40


def make_key(**changes: object) -> str:
    facts: dict[str, object] = {
        "backend": "openvino",
        "version": "2026.4.1-1-x",
        "device": "CPU",
        "processor": "AMD EPYC",
        "instruction_set": "avx2",
        "files": [("model.xml", "a" * 64), ("model.bin", "b" * 64)],
        "properties": {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False, "INFERENCE_NUM_THREADS": 2},
    }
    key = write_key(**{**facts, **changes})  # type: ignore[arg-type]
    assert key is not None
    return key


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def find_file(cache: Path) -> Path:
    (file,) = (cache / "compiled").iterdir()
    return file


def test_key_states_one_fact_a_line() -> None:
    assert make_key().splitlines() == [
        "edgevit compiled 1",
        "backend openvino",
        "version 2026.4.1-1-x",
        "device CPU",
        "processor AMD EPYC",
        "instruction_set avx2",
        f"file model.xml {'a' * 64}",
        f"file model.bin {'b' * 64}",
        "property ENABLE_CPU_PINNING false",
        "property INFERENCE_NUM_THREADS 2",
        "property PERFORMANCE_HINT LATENCY",
    ]


@pytest.mark.parametrize(
    "changes",
    [{"processor": None}, {"instruction_set": None}, {"processor": "a\nb"}, {"properties": {"X": "a\nproperty Y b"}}],
)
def test_nothing_is_kept_where_the_key_would_say_too_little(changes: dict[str, object]) -> None:
    facts = {
        "backend": "openvino", "version": "1", "device": "CPU", "processor": "x", "instruction_set": "avx2",
        "files": [], "properties": {},
    }  # fmt: skip
    assert write_key(**{**facts, **changes}) is None  # type: ignore[arg-type]


def test_what_was_kept_is_read_and_only_by_its_own_key(cache: Path) -> None:
    key = make_key()
    assert read_compiled(key) is None
    assert can_keep(key, 1)
    assert write_compiled(key, CONTENT)
    found = read_compiled(key)
    assert found is not None
    assert found.tobytes() == CONTENT
    others: tuple[dict[str, object], ...] = (
        {"version": "2026.4.2-1-x"},
        {"processor": "AMD Ryzen"},
        {"instruction_set": "avx512_bf16"},
        {"files": [("model.xml", "a" * 64), ("model.bin", "c" * 64)]},
        {"properties": {}},
    )
    for other in others:
        assert read_compiled(make_key(**other)) is None


def test_file_under_another_keys_name_is_not_taken(cache: Path) -> None:
    key, other = make_key(), make_key(processor="another")
    write_compiled(other, CONTENT)
    foreign = find_file(cache)
    write_compiled(key, b"own")
    (own,) = (path for path in (cache / "compiled").iterdir() if path != foreign)
    os.replace(foreign, own)
    assert read_compiled(key) is None


@pytest.mark.parametrize("position", [0, 100, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 5000, -1])
def test_any_flipped_bit_is_noticed(cache: Path, position: int) -> None:
    write_compiled(make_key(), CONTENT)
    file = find_file(cache)
    damaged = bytearray(file.read_bytes())
    damaged[position] ^= 4
    file.write_bytes(damaged)
    assert read_compiled(make_key()) is None


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES, HEADER_BYTES + 1, HEADER_BYTES + len(CONTENT) - 1])
def test_file_cut_short_is_noticed(cache: Path, size: int) -> None:
    write_compiled(make_key(), CONTENT)
    os.truncate(find_file(cache), size)
    assert read_compiled(make_key()) is None


def test_others_cannot_read_or_write_it_whatever_the_umask(cache: Path) -> None:
    before = os.umask(0)
    try:
        write_compiled(make_key(), CONTENT)
    finally:
        os.umask(before)
    assert find_file(cache).stat().st_mode & 0o777 == 0o600
    assert (cache / "compiled").stat().st_mode & 0o777 == 0o700
    assert read_compiled(make_key()) is not None


@pytest.mark.parametrize("which", ["file", "folder"])
@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_what_others_may_write_is_not_taken(cache: Path, which: str, mode: int) -> None:
    write_compiled(make_key(), CONTENT)
    (find_file(cache) if which == "file" else cache / "compiled").chmod(mode)
    assert read_compiled(make_key()) is None
    assert can_keep(make_key(), 1) == (which == "file")


def test_what_another_user_made_is_not_taken(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_compiled(make_key(), CONTENT)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert read_compiled(make_key()) is None
    assert not can_keep(make_key(), 1)


@pytest.mark.parametrize("which", ["file", "folder"])
def test_links_are_not_followed(cache: Path, tmp_path: Path, which: str) -> None:
    write_compiled(make_key(), CONTENT)
    path = find_file(cache) if which == "file" else cache / "compiled"
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    assert read_compiled(make_key()) is None


def test_pipe_in_its_place_does_not_hang(cache: Path) -> None:
    write_compiled(make_key(), CONTENT)
    file = find_file(cache)
    file.unlink()
    os.mkfifo(file, 0o600)
    assert read_compiled(make_key()) is None


def test_content_stays_though_its_file_is_replaced_and_removed(cache: Path) -> None:
    write_compiled(make_key(), CONTENT)
    found = read_compiled(make_key())
    assert found is not None
    write_compiled(make_key(), b"\0" * len(CONTENT))
    find_file(cache).unlink()
    np.testing.assert_array_equal(found, np.frombuffer(CONTENT, np.uint8))
    found[:] = 0  # a library that writes into it changes no file


def test_room_is_made_by_bytes_and_what_is_used_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = HEADER_BYTES + len(CONTENT)
    monkeypatch.setattr(compiled_file, "MOST_BYTES", 3 * size + 1)
    keys = [make_key(processor=f"processor {i}") for i in range(5)]
    for age, key in enumerate(keys[:3]):
        write_compiled(key, CONTENT)
        for file in (cache / "compiled").iterdir():
            if file.stat().st_mtime > 1000:
                os.utime(file, (age, age))
    assert read_compiled(keys[0]) is not None  # the oldest is now the one used last
    write_compiled(keys[3], CONTENT)
    assert [read_compiled(key) is not None for key in keys] == [True, False, True, True, False]
    assert not can_keep(keys[4], 3 * size + 2)


def test_cache_that_cannot_be_written_or_found_is_none(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_text("a file")
    assert not write_compiled(make_key(), CONTENT)
    assert read_compiled(make_key()) is None
    monkeypatch.setattr(compiled_file, "default_cache_directory", lambda: Path("/nowhere/at/all"))
    monkeypatch.delattr(os, "geteuid")  # a system without owners
    assert not can_keep(make_key(), 1)
    assert read_compiled(make_key()) is None
