"""What stages work with, in this process and in another one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edgevit.build.bench import Bench, Stages
from edgevit.build.evidence import Evidence
from edgevit.core.cache import StageCache
from edgevit.core.isa import list_tiers, read_tier
from edgevit.pixels.preprocess import Preprocess

PREPROCESS = Preprocess(8, 8, "none", 8, 8, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def make_bench(root: Path, told: list[tuple[str, int, int]]) -> Bench:
    """One whose callbacks cannot be sent to another process."""
    evidence = Evidence(PREPROCESS, np.zeros((1, 8, 8, 3), np.uint8), (np.ones((1, 10), np.float32),))
    return Bench(evidence, StageCache(root), lambda *step: told.append(step), lambda text: None)


def look(name: str, bench: Bench, *, times: int = 1) -> tuple[int, str, float]:
    """A stage, as another process finds it by its name."""
    bench.progress(name, times, times)
    return os.getpid(), name, float(bench.evidence.outputs[0].sum()) * times


def test_stage_in_this_process_is_given_the_bench_and_tells_its_progress(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    assert make_bench(tmp_path, told).run_under(read_tier(), look, "a", times=2) == (os.getpid(), "a", 20.0)
    assert told == [("a", 2, 2)]


@pytest.mark.skipif(len(list_tiers()) < 2, reason="needs an older instruction set to limit a process to")
def test_stage_in_another_process_gets_the_same_and_is_heard_here(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    process, name, total = make_bench(tmp_path, told).run_under(list_tiers()[0], look, "a")
    assert process != os.getpid()
    assert (name, total, told) == ("a", 10.0, [("a", 1, 1)])


def test_quiet_bench_tells_nobody(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    make_bench(tmp_path, told).quiet().progress("a", 0, 1)
    assert told == []


def test_stage_that_fails_is_not_timed() -> None:
    stages = Stages({"before": 1.0})
    with pytest.raises(ValueError, match="x"), stages.time("failed"):
        raise ValueError("x")
    with stages.time("done"):
        pass
    assert [*stages] == ["before", "done"]
