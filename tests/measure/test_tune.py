"""Which way to open an engine is tried and chosen: by sessions of known duration, and in the engine libraries."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from edgevit.core.engine import Engine, Setting, TensorSpec
from edgevit.measure import tune
from edgevit.measure.latency import measure_latency
from edgevit.measure.tune import list_candidates, tune_settings
from tests.support.fake_session import Clock, FakeSession
from tests.support.tiny_engine import compile_tiny_engine
from tests.support.tiny_onnx import make_images

ENGINE = Engine(
    backend="openvino",
    device="CPU",
    precision="int8",
    files=("model.xml",),
    inputs=(TensorSpec("image", (1, 4, 4, 3), "uint8"),),
    outputs=(TensorSpec("logits", (1, 2), "float32"),),
    settings={"hint": "latency"},
)
OPENED: Mapping[str, Setting] = {"hint": "latency", "threads": 8}
BATCH = np.zeros((1, 4, 4, 3), np.uint8)


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "count_physical_cores", lambda: 8)
    monkeypatch.setattr(tune, "count_logical_cores", lambda: 16)


@pytest.mark.usefixtures("eight_cores")
def test_list_candidates_tries_all_threads_and_halves_but_not_the_librarys_choice() -> None:
    assert list_candidates(ENGINE, OPENED) == (
        {"threads": 16},
        {"threads": 4},
        {"threads": 2},
        {"ENABLE_CPU_PINNING": False},
    )


@pytest.mark.usefixtures("eight_cores")
def test_list_candidates_leaves_alone_what_the_engine_has() -> None:
    fixed = dataclasses.replace(ENGINE, settings={"threads": 3})
    assert list_candidates(fixed, OPENED) == ({"ENABLE_CPU_PINNING": False},)
    pinned = dataclasses.replace(ENGINE, settings={"threads": 3, "ENABLE_CPU_PINNING": True})
    assert list_candidates(pinned, OPENED) == ()
    assert list_candidates(dataclasses.replace(ENGINE, settings={"streams": 2}), OPENED) == ()
    assert list_candidates(dataclasses.replace(ENGINE, device="GPU"), OPENED) == ()
    assert list_candidates(ENGINE, {**OPENED, "hint": "throughput"}) == ()


def open_fakes(monkeypatch: pytest.MonkeyPatch, milliseconds: Mapping[object, tuple[float, ...]]) -> None:
    """Sessions by their threads: ``None`` is the library's own choice."""
    clock = Clock()

    def open_engine(_engine: Engine, settings: Mapping[str, Setting] | None = None) -> nullcontext[FakeSession]:
        threads = (settings or {}).get("threads", "pinning" if settings else None)
        session = FakeSession(clock, str(threads), *milliseconds[threads])
        session.settings = dict(OPENED)
        return nullcontext(session)

    monkeypatch.setattr(tune, "open_engine", open_engine)
    monkeypatch.setattr(tune, "measure_latency", functools.partial(measure_latency, clock=clock))


@pytest.mark.usefixtures("eight_cores")
def test_tune_settings_chooses_the_fastest_that_is_faster_beyond_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    open_fakes(monkeypatch, {None: (10, 10.2), 16: (12,), 4: (8, 8.1), 2: (7, 7.1), "pinning": (9.9,)})
    trials = tune_settings(ENGINE, BATCH, runs=40, seconds=0)
    assert [(t.settings, t.chosen) for t in trials] == [
        ({"threads": 16}, False),
        ({"threads": 4}, False),
        ({"threads": 2}, True),
        ({"ENABLE_CPU_PINNING": False}, False),
    ]
    assert trials[2].ratio.value == pytest.approx(7.05 / 10.1, abs=0.02)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize("four", [(9.9,), (10.0, 5.0, 12.0, 14.0, 7.0, 11.0, 4.0)])  # too little, and too doubtful
def test_tune_settings_keeps_the_librarys_choice_where_nothing_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, four: tuple[float, ...]
) -> None:
    open_fakes(monkeypatch, {None: (10,), 16: (12,), 4: four, 2: (11,), "pinning": (10,)})
    trials = tune_settings(ENGINE, BATCH, runs=40, seconds=0)
    assert len(trials) == 4
    assert not any(trial.chosen for trial in trials)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_tune_settings_in_the_library_times_every_candidate(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "_list_counts", lambda: (1, 2))
    engine = compile_tiny_engine(tmp_path, backend)
    told: list[str] = []
    trials = tune_settings(
        engine,
        make_images(1),
        runs=2,
        seconds=0.01,
        progress=lambda stage, done, total: told.append(stage),
    )
    assert trials
    assert all(trial.ratio.value > 0 for trial in trials)
    tried = [trial.settings["threads"] for trial in trials if "threads" in trial.settings]
    assert tried  # 1 and 2, without the one that the library would take
    assert set(tried) <= {1, 2}
    assert set(told) == {"settings"}
