"""Giving memory back to the system."""

from __future__ import annotations

import ctypes
import gc
import platform
from pathlib import Path

import pytest

from edgevit.core import memory
from edgevit.core.memory import collect_new_alone, release_memory

_MIB = 2**20
_FIND_TRIM = memory._find_trim  # a run of all tests has none


@pytest.fixture(autouse=True)
def trim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_find_trim", _FIND_TRIM)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator keeps its freed pages otherwise")
def test_release_memory_of_blocks_freed_below_one_in_use_shrinks_the_process() -> None:
    blocks = [b"\x01" * 100_000 for _ in range(2000)]  # below the size that glibc maps by itself
    last = blocks.pop()
    del blocks
    before = _resident_bytes()
    release_memory()
    assert before - _resident_bytes() > 150 * _MIB
    assert len(last) == 100_000


def test_release_memory_of_a_cycle_collects_it() -> None:
    class Node:
        pass

    collected = []

    class Weights:
        def __del__(self) -> None:
            collected.append(True)

    node = Node()
    node.self, node.weights = node, Weights()  # type: ignore[attr-defined]
    del node
    release_memory()
    assert collected == [True]


@pytest.mark.usefixtures("thawed")
def test_collect_new_alone_frees_new_cycles_at_once_and_old_ones_afterwards() -> None:
    collected = []

    class Node:
        def __init__(self, name: str) -> None:
            self.name, self.self = name, self

        def __del__(self) -> None:
            collected.append(self.name)

    gc.collect()
    old = Node("old")
    with collect_new_alone():
        with collect_new_alone():
            Node("new")
            release_memory()
            assert collected == ["new"]
        assert gc.get_freeze_count() > 0
        del old
        release_memory()
        assert collected == ["new"]
    assert gc.get_freeze_count() == 0
    release_memory()
    assert collected == ["new", "old"]


@pytest.mark.usefixtures("thawed")
def test_collect_new_alone_leaves_what_somebody_else_froze_and_thaws_after_an_error() -> None:
    with pytest.raises(ValueError), collect_new_alone():
        raise ValueError
    assert gc.get_freeze_count() == 0
    gc.freeze()
    try:
        with collect_new_alone():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_release_memory_with_another_c_library_only_collects(monkeypatch: pytest.MonkeyPatch) -> None:
    memory._find_trim.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    try:
        release_memory()
        assert memory._find_trim() is None
    finally:
        memory._find_trim.cache_clear()


def _resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
