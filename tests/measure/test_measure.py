"""The measuring verbs on real engines; figures are checked for sense, never against a clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgevit.core.engine import Engine
from edgevit.core.task import Task
from edgevit.measure.answers import measure_answers
from edgevit.measure.latency import measure_latency, measure_throughput
from edgevit.measure.parity import PARITY_TOLERANCES, check_parity
from edgevit.pixels.images import ImageSet
from edgevit.pixels.preprocess import Preprocess
from edgevit.runtime.session import open_engine
from tests.support.tiny_engine import compile_tiny_engine
from tests.support.tiny_onnx import CLASSES, SIZE, compute_logits, make_images

BACKENDS = ("openvino", "onnxruntime")


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Engine]:
    return {name: compile_tiny_engine(tmp_path_factory.mktemp(name), name) for name in BACKENDS}


def test_latency_of_two_libraries_is_compared_in_one_run(engines: dict[str, Engine]) -> None:
    with open_engine(engines["openvino"]) as first, open_engine(engines["onnxruntime"]) as second:
        found = measure_latency(
            {"openvino": first, "onnxruntime": second}, make_images(1), runs=100, seconds=0.05, warmup_seconds=0.01
        )
    for latency in found.latencies.values():
        assert latency.runs >= 100
        assert latency.seconds >= 0.05
        assert 0 < latency.min_ms <= latency.p50_ms <= latency.p90_ms <= latency.p99_ms
        assert latency.settings
    ratio = found.ratios["onnxruntime"]
    assert ratio.low <= ratio.value <= ratio.high


@pytest.mark.parametrize("backend", BACKENDS)
def test_throughput_of_a_real_engine_counts_every_run(engines: dict[str, Engine], backend: str) -> None:
    found = measure_throughput(engines[backend], make_images(1), seconds=0.1, warmup_seconds=0.02)
    assert found.streams >= 1
    assert found.runs >= found.streams
    assert found.images_per_second > 0
    assert found.settings["hint"] == "throughput"


@pytest.mark.parametrize("backend", BACKENDS)
def test_real_engine_has_parity_and_full_agreement(engines: dict[str, Engine], backend: str, tmp_path: Path) -> None:
    for i, pixels in enumerate(make_images(7)):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    rows = [f"{i}.png,{i % CLASSES}" for i in range(7)]
    (tmp_path / "list.csv").write_text("\n".join(["file,label", *rows]))
    preprocess = Preprocess(SIZE, SIZE, "none", SIZE, SIZE, "bilinear", (0.0,) * 3, (1.0,) * 3)
    reference: Any = compute_logits  # in float64
    with open_engine(engines[backend]) as session:
        parity = check_parity(
            session.run_outputs,
            lambda pixels: (reference(pixels),),
            [make_images(7)],
            PARITY_TOLERANCES["fp32"],
            ["logits"],
            ranked=True,
        )
        found = measure_answers(
            session.run_outputs,
            ImageSet.read(tmp_path / "list.csv"),
            preprocess,
            Task("classify"),
            session.outputs,
            reference=lambda pixels: (reference(pixels),),
            batch_size=3,
        )
    assert parity.passed
    assert parity.images == 7
    labels = np.arange(7) % CLASSES
    assert (found.images, found.agreement, found.lost, found.gained) == (7, 7, 0, 0)
    assert found.top1 == found.reference_top1 == (compute_logits(make_images(7)).argmax(1) == labels).sum()
    assert found.sqnr_db is None or found.sqnr_db > 100
