"""Making a canary at the build: how many images, whose answers, and where there is nothing to compare."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgevit.build.canary import MOST_BYTES, make_canary
from edgevit.build.evidence import Evidence
from edgevit.core.engine import Engine
from edgevit.runtime.session import open_engine
from tests.support.tiny_bundle import make_evidence
from tests.support.tiny_engine import compile_tiny_engine


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return compile_tiny_engine(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that are compiled for another machine."""
    for backend in ("openvino", "onnxruntime"):
        monkeypatch.setattr(f"edgevit.runtime.{backend}.find_mismatch", lambda engine: "it is for another machine")


def read(content: bytes) -> dict[str, np.ndarray]:
    import io

    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return dict(file)


def test_it_holds_images_and_both_answers_and_where_they_were_given(engine: Engine) -> None:
    evidence = make_evidence()
    made = make_canary(engine, evidence)
    assert made is not None
    content, record = made
    arrays = read(content)
    assert sorted(arrays) == ["built.logits", "float.logits", "pixels"]
    rows = [int(np.flatnonzero((evidence.pixels == image).all(axis=(1, 2, 3)))[0]) for image in arrays["pixels"]]
    assert len(set(rows)) == 3
    np.testing.assert_array_equal(arrays["float.logits"], evidence.outputs[0][rows])
    with open_engine(engine) as session:
        np.testing.assert_array_equal(arrays["built.logits"], session.run(arrays["pixels"]))
        assert record.place is not None
        assert record.place.settings["inference_precision"] == session.settings["inference_precision"] == "f32"
        assert not {"threads", "streams", "hint"} & set(record.place.settings)
    signal = (arrays["float.logits"].astype(float) ** 2).sum()
    noise = ((arrays["float.logits"].astype(float) - arrays["built.logits"]) ** 2).sum()
    assert record.sqnr_db == pytest.approx(10 * np.log10(signal / noise), abs=0.006)
    assert (record.images, record.answers, record.least_db) == (3, "engine", 50.0)
    assert record.place.backend == engine.backend
    assert record.place.version == engine.versions[engine.backend]
    assert record.place.device


def test_the_same_build_writes_the_same_bytes(engine: Engine) -> None:
    assert make_canary(engine, make_evidence()) == make_canary(engine, make_evidence())


def test_fewer_images_than_three_are_all_of_them(engine: Engine) -> None:
    made = make_canary(engine, make_evidence(2))
    assert made is not None
    assert made[1].images == 2


def test_a_large_image_comes_alone_and_the_file_stays_small(engine: Engine, not_here: None) -> None:
    evidence = make_evidence(3)
    large = np.zeros((3, 1024, 1024, 3), np.uint8)
    made = make_canary(engine, dataclasses.replace(evidence, pixels=large))
    assert made is not None
    assert made[1].images == 1
    assert len(made[0]) < MOST_BYTES


def test_an_engine_that_is_not_for_here_gets_its_graphs_answers_and_says_so(engine: Engine, not_here: None) -> None:
    evidence = make_evidence()
    graph = evidence.outputs[0] * np.float32(1.01)  # 40 dB
    evidence = dataclasses.replace(evidence, graph_outputs={"int8": (graph,)})
    made = make_canary(dataclasses.replace(engine, precision="int8"), evidence)
    assert made is not None
    assert len(read(made[0])["built.logits"]) == 3
    assert np.isin(read(made[0])["built.logits"], graph).all()
    assert (made[1].answers, made[1].place, made[1].least_db) == ("graph", None, 30.0)
    assert made[1].sqnr_db == pytest.approx(40, abs=0.01)


def test_the_images_with_the_most_usual_noise_are_kept(engine: Engine, not_here: None) -> None:
    """By luck one image has little noise, and another much: elsewhere they have as much as all others."""
    evidence = make_evidence(7)
    noise = np.array([0.03, 0.0001, 0.011, 0.3, 0.009, 0.5, 0.01], np.float32)[:, None]
    evidence = dataclasses.replace(evidence, graph_outputs={"int8": (evidence.outputs[0] * (1 + noise),)})
    made = make_canary(dataclasses.replace(engine, precision="int8"), evidence)
    assert made is not None
    # 30, 80, 39, 10, 41, 6 and 40 dB: the median is 39
    np.testing.assert_array_equal(read(made[0])["pixels"], evidence.pixels[[2, 4, 6]])


@pytest.mark.parametrize(("precision", "least"), [("fp32", 50.0), ("fp16", 30.0)])
def test_a_float_engine_that_is_not_for_here_has_to_reach_what_its_arithmetic_can(
    engine: Engine, not_here: None, precision: str, least: float
) -> None:
    made = make_canary(dataclasses.replace(engine, precision=precision), make_evidence())
    assert made is not None
    assert (made[1].answers, made[1].sqnr_db, made[1].least_db) == ("graph", None, least)


def test_where_nothing_can_be_compared_there_is_none(engine: Engine, not_here: None) -> None:
    evidence = make_evidence()
    zeros: Evidence = dataclasses.replace(evidence, outputs=(np.zeros_like(evidence.outputs[0]),))
    assert make_canary(engine, zeros) is None
    nothing = evidence.outputs[0].copy()
    nothing[:, 0] = np.nan
    lost = dataclasses.replace(evidence, graph_outputs={"int8": (nothing,)})
    assert make_canary(dataclasses.replace(engine, precision="int8"), lost) is None


def test_an_evidence_of_fewer_images_than_a_batch_is_enough(tmp_path: Path) -> None:
    from edgevit.core.target import load_target
    from edgevit.engines.compile import compile_engine
    from tests.support.tiny_onnx import write_classifier

    model = write_classifier(tmp_path / "source.onnx", batch="batch")
    engine = compile_engine(model, load_target("cpu"), "fp32", tmp_path / "engine", batch=(4, 4, 8))
    made = make_canary(engine, make_evidence(2))
    assert made is not None
    assert made[1].images == 2
