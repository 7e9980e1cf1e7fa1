"""A function in a process of its own that is limited to older instructions."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from edgevit.build.tier_process import run_under
from edgevit.core.cache import StageCache
from edgevit.core.errors import DataError, DeviceError
from edgevit.core.isa import LIMIT_VARIABLE, TIERS, TierName, list_tiers, read_tier
from edgevit.core.progress import Progress, ignore_progress

OLDER = [tier for tier in list_tiers() if tier != read_tier() and TIERS[tier].limit]
needs_an_older_tier = pytest.mark.skipif(not OLDER, reason="this processor has one tier alone")


def add(first: int, second: int, *, progress: Progress = ignore_progress) -> tuple[int, TierName | None, int]:
    print("what a library prints")
    progress("add", 1, 2)
    return first + second, read_tier(), os.getpid()


def fail(kind: str, *, progress: Progress = ignore_progress) -> None:
    if kind == "refuse":
        raise DataError("two offenders", "mend them")
    if kind == "unpicklable":
        error = ValueError("odd")
        error.args = (lambda: None,)
        raise error
    os.kill(os.getpid(), signal.SIGKILL)


def find_root(cache: StageCache, *, progress: Progress = ignore_progress) -> tuple[Path, int]:
    return cache.root, cache.limit_bytes


@needs_an_older_tier
@pytest.mark.parametrize("tier", OLDER)
def test_the_function_computes_under_the_tier_and_tells_how_far_it_is(tier: TierName) -> None:
    told: list[tuple[str, int, int]] = []
    total, found, process = run_under(tier, add, 3, second=4, progress=lambda *step: told.append(step))
    assert (total, found) == (7, tier)
    assert process != os.getpid()
    assert told == [("add", 1, 2)]
    assert read_tier() not in OLDER


@pytest.mark.parametrize("tier", [None, read_tier()])
def test_this_process_is_enough_where_nothing_is_limited(tier: TierName | None) -> None:
    assert run_under(tier, add, 3, 4) == (7, read_tier(), os.getpid())


@needs_an_older_tier
def test_an_error_of_the_function_arrives_with_its_hint() -> None:
    with pytest.raises(DataError) as caught:
        run_under(OLDER[0], fail, "refuse")
    assert (caught.value.message, caught.value.hint) == ("two offenders", "mend them")
    with pytest.raises(RuntimeError, match="ValueError"):
        run_under(OLDER[0], fail, "unpicklable")


@needs_an_older_tier
def test_a_process_that_is_killed_says_so() -> None:
    with pytest.raises(DeviceError, match="ended by signal 9") as caught:
        run_under(OLDER[0], fail, "kill")
    assert "memory" in caught.value.hint


def test_a_tier_that_is_not_here_is_refused() -> None:
    absent = next(tier for tier in TIERS if tier not in list_tiers())
    with pytest.raises(DeviceError, match=TIERS[absent].title):
        run_under(absent, add, 1, 2)


@needs_an_older_tier
def test_a_cache_is_the_same_folder_there(tmp_path: Path) -> None:
    cache = StageCache(tmp_path / "cache", limit_bytes=12345)
    assert run_under(OLDER[0], find_root, cache) == (cache.root, 12345)


@needs_an_older_tier
def test_a_module_in_the_working_folder_is_not_taken_for_a_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "subprocess.py").write_text("raise SystemExit('a decoy')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(LIMIT_VARIABLE, raising=False)
    assert run_under(OLDER[0], add, 1, 2)[:2] == (3, OLDER[0])
