"""No two stages of a build have one name, and the whole is told in parts; test_build_int8.py looks at one more."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest

from edgevit.build.bench import Stages
from edgevit.build.build import build_model
from edgevit.core.cache import StageCache
from edgevit.core.isa import list_tiers
from edgevit.core.quantization import Quantization
from edgevit.core.recipe import Recipe
from edgevit.core.target import load_target
from tests.support.small_checkpoints import write_folder
from tests.support.stage_names import StageNames

QUICK = Recipe(latency_runs=2, latency_seconds=0.05, tune_settings=False, quantization=Quantization(images=4))


def test_int8_and_fp8_beside_each_other_have_stages_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    stages = StageNames()
    build_model(
        write_folder(tmp_path / "model"),
        load_target("rtx-40"),
        out=tmp_path / "bundle",
        recipe=QUICK,
        calibration="random",
        progress=stages,
        cache=StageCache(tmp_path / "cache"),
    )
    assert {"sensitivity for int8", "sensitivity for fp8"} <= stages.ended.keys()
    assert stages.twice == []
    assert stages.parts == [(done, 9) for done in range(1, 10)]


@pytest.mark.skipif("avx2" not in list_tiers()[:-1], reason="needs a processor with more than AVX2")
def test_engines_of_another_instruction_set_have_stages_of_their_own(tmp_path: Path) -> None:
    stages = StageNames()
    build_model(
        write_folder(tmp_path / "model"),
        dataclasses.replace(load_target("intel-cpu"), isa=("avx2", list_tiers()[-1])),
        out=tmp_path / "bundle",
        recipe=QUICK,
        progress=stages,
        cache=StageCache(tmp_path / "cache"),
    )
    assert any(stage.startswith("compile fp32, ") for stage in stages.ended)
    assert stages.twice == []


def test_parts_that_another_process_times_are_told_nobody() -> None:
    stages, told = Stages(), StageNames()
    with stages.time("read"):
        pass
    stages.plan(("read", "measure"), told)
    other = pickle.loads(pickle.dumps(stages))
    with other.time("measure"):
        pass
    assert told.parts == [(1, 2)]
    with stages.time("measure"), stages.time("something unplanned"):
        pass
    assert told.parts == [(1, 2), (2, 2)]
