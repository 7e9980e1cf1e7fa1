from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgevit.core import cores

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux's affinity calls")


def _fake_topology(folder: Path, siblings: list[str]) -> Path:
    for cpu, text in enumerate(siblings):
        (folder / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (folder / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(text + "\n")
    return folder


def _allow(monkeypatch: pytest.MonkeyPatch, cpus: set[int]) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cpus)


def test_two_threads_of_one_core_count_as_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _allow(monkeypatch, {0, 1, 2, 3})
    assert cores.count_physical_cores(_fake_topology(tmp_path, ["0,2", "1,3", "0,2", "1,3"])) == 2
    assert cores.count_logical_cores() == 4


def test_cores_that_the_process_may_not_use_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _allow(monkeypatch, {0, 2})
    assert cores.count_physical_cores(_fake_topology(tmp_path, ["0-1", "0-1", "2-3", "2-3"])) == 2


def test_system_that_does_not_tell_has_one_core_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _allow(monkeypatch, {0, 1, 2})
    assert cores.count_physical_cores(tmp_path) == 3


@pytest.mark.parametrize(
    ("physical", "logical", "threads"), [(1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 4, 4), (4, 8, 4), (16, 32, 16)]
)
def test_threads_are_one_a_core_except_on_two_virtual_cores(
    monkeypatch: pytest.MonkeyPatch, physical: int, logical: int, threads: int
) -> None:
    monkeypatch.setattr(cores, "count_physical_cores", lambda: physical)
    monkeypatch.setattr(cores, "count_logical_cores", lambda: logical)
    assert cores.choose_threads() == threads


@pytest.mark.parametrize(("allowed", "threads"), [({0}, 1), ({0, 1}, 2), ({0, 1, 2, 3}, 0)])
def test_threads_of_a_build_s_sessions_are_limited_where_the_process_is(
    monkeypatch: pytest.MonkeyPatch, allowed: set[int], threads: int
) -> None:
    _allow(monkeypatch, allowed)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert cores.limit_threads() == threads
