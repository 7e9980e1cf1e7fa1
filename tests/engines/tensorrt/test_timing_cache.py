from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from edgevit.core.target import load_target
from edgevit.engines.fusion_file import load_fusion
from edgevit.engines.tensorrt.backend import TENSORRT, TENSORRT_RTX
from edgevit.engines.tensorrt.timing_cache import TimingCache
from tests.support.gpu_double import ORIN, Machine
from tests.support.tiny_onnx import write_classifier

JETSON = load_target("jetson")


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tensorrt" / "timing"


def build(tmp_path: Path) -> tuple[str, ...]:
    """Notes of a build."""
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    TENSORRT.compile(write_classifier(work / "model.onnx"), JETSON, "fp16", work, {})
    record = load_fusion(work)
    assert record is not None
    return record.notes


def test_timings_are_kept_for_device_version_and_size_and_used_again(
    orin: Machine, folder: Path, tmp_path: Path
) -> None:
    assert build(tmp_path) == ()
    (path,) = folder.iterdir()
    assert path.name == "10.3.0-Orin-8.7-8.cache"
    stored = json.loads(path.read_bytes())
    path.write_text(json.dumps({**stored, "earlier": 1}))
    assert build(tmp_path) == ()
    assert json.loads(path.read_bytes()) == {**stored, "earlier": 1}, "it was loaded, used and saved back"
    orin.gpu = dataclasses.replace(ORIN, multiprocessors=16)
    build(tmp_path)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("content", [b"damaged", b'{"gpu": "another"}'])
def test_timings_that_do_not_fit_are_made_anew_with_a_note(
    orin: Machine, folder: Path, tmp_path: Path, content: bytes
) -> None:
    build(tmp_path)
    (path,) = folder.iterdir()
    path.write_bytes(content)
    assert build(tmp_path) == (f"the timing cache {path} is damaged or of another device, and was made anew",)
    assert json.loads(path.read_bytes())["gpu"] == "Orin"
    assert build(tmp_path) == ()


def test_timings_that_cannot_be_kept_are_a_note(orin: Machine, folder: Path, tmp_path: Path) -> None:
    folder.parents[1].write_bytes(b"a file where the folder should be")
    (note,) = build(tmp_path)
    assert "cannot be written" in note


def test_builder_is_told_the_workspace_and_verbosity(orin: Machine, tmp_path: Path, monkeypatch) -> None:
    import sys

    from tests.support.gpu_double.builder import MemoryPoolType, ProfilingVerbosity

    library, configs = sys.modules["tensorrt"], []
    make = library.Builder.create_builder_config

    def keep(self: Any) -> Any:
        configs.append(make(self))
        return configs[-1]

    monkeypatch.setattr(library.Builder, "create_builder_config", keep)
    build(tmp_path)
    (config,) = configs
    assert config.limits == {MemoryPoolType.WORKSPACE: JETSON.memory_bytes // 4}
    assert config.profiling_verbosity == ProfilingVerbosity.DETAILED
    assert config.cleared == set()
    work = tmp_path / "work"
    TENSORRT.compile(work / "model.onnx", JETSON, "fp32", work, {})
    assert {flag.name for flag in configs[-1].cleared} == {"TF32"}


def test_tensorrt_rtx_is_asked_for_no_timings(rtx_3060: Machine, folder: Path, tmp_path: Path, monkeypatch) -> None:
    """It would look for a GPU then, and compiles without one."""
    monkeypatch.setattr(TimingCache, "attach", lambda self, config: pytest.fail("asked"))
    work = tmp_path / "work"
    work.mkdir()
    TENSORRT_RTX.compile(write_classifier(work / "model.onnx"), load_target("rtx-30"), "fp16", work, {})
