"""An engine's parity and accuracy, against answers that numpy computes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgevit.build.bench import Bench
from edgevit.build.evidence import Evidence, Judged
from edgevit.build.judge import judge_trial, try_graph
from edgevit.build.order import Order
from edgevit.build.trial import GraphFile, Trial, compile_graph
from edgevit.core.cache import StageCache
from edgevit.core.engine import TensorSpec
from edgevit.core.errors import DeviceError
from edgevit.core.report.report import DataUse, Variant
from edgevit.core.target import load_target
from edgevit.core.task import Task
from edgevit.pixels.images import ImageSet
from edgevit.pixels.preprocess import Preprocess
from edgevit.runtime.session import Session, open_engine
from tests.support.tiny_onnx import SIZE, compute_logits, make_images, write_classifier

ORDER = Order(load_target("cpu"))
PREPROCESS = Preprocess(SIZE, SIZE, "none", SIZE, SIZE, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def make_bench(evidence: Evidence) -> Bench:
    """Whose cache nothing is taken from."""
    return Bench(evidence, StageCache())


def judged(folder: Path, count: int, seed: int) -> Judged:
    """Images as files, labelled with the classifier's own answers except for the first, and those answers."""
    folder.mkdir(parents=True)
    pixels = make_images(count, seed)
    logits = compute_logits(pixels).astype(np.float32)
    labels = logits.argmax(1)
    labels[0] = (labels[0] + 1) % 10
    rows = []
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i}.png")
        rows.append(f"{i}.png,{labels[i]}\n")
    (folder / "images.csv").write_text("file,label\n" + "".join(rows))
    return Judged(ImageSet.read(folder / "images.csv"), (logits,), DataUse("images.csv", count, True, "0" * 64))


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    pixels = make_images(4)
    root = tmp_path_factory.mktemp("images")
    return Evidence(
        PREPROCESS,
        pixels,
        (compute_logits(pixels).astype(np.float32),),
        choice=judged(root / "calibration", 5, 2),
        validation=judged(root / "validation", 6, 3),
    )


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory, evidence: Evidence) -> Trial:
    root = tmp_path_factory.mktemp("engine")
    graph = GraphFile(write_classifier(root / "tiny.onnx"), {})
    return compile_graph(graph, "fp32", ORDER, Bench(evidence, StageCache(root / "cache")))


def test_judge_trial_when_answers_are_the_models_counts_both_sets(trial: Trial, evidence: Evidence) -> None:
    assert trial.engine is not None
    with open_engine(trial.engine) as session:
        variant = judge_trial(trial, session, ORDER, make_bench(evidence))
        held_out = judge_trial(trial, session, ORDER, make_bench(evidence), choice=False)
    assert variant.parity is not None
    assert variant.parity.passed
    assert variant.parity.images == 4
    assert variant.accuracy is not None
    assert variant.choice_accuracy is not None
    assert (variant.accuracy.images, variant.accuracy.agreement, variant.accuracy.top1) == (6, 6, 5)
    assert (variant.choice_accuracy.images, variant.choice_accuracy.top1) == (5, 4)
    assert held_out.choice_accuracy is None
    assert held_out.accuracy == variant.accuracy


def test_judge_trial_when_answers_are_not_the_models_fails_parity_and_counts_nothing(
    trial: Trial, evidence: Evidence
) -> None:
    assert trial.engine is not None
    wrong = dataclasses.replace(evidence, outputs=(evidence.outputs[0] * np.float32(1.01),))
    with open_engine(trial.engine) as session:
        variant = judge_trial(trial, session, ORDER, make_bench(wrong))
    assert variant.parity is not None
    assert not variant.parity.passed
    assert variant.parity.relative_error == pytest.approx(0.01 / 1.01, rel=0.01)
    assert (variant.accuracy, variant.choice_accuracy) == (None, None)


def test_judge_trial_compares_a_quantised_engine_with_its_graph_and_not_with_the_model(
    trial: Trial, evidence: Evidence
) -> None:
    assert trial.engine is not None
    quantised = dataclasses.replace(trial, variant=dataclasses.replace(trial.variant, name="int8", precision="int8"))
    far = (evidence.outputs[0] * np.float32(1.5),)
    of_graph = dataclasses.replace(evidence, outputs=far, graph_outputs={"int8": evidence.outputs})
    with open_engine(trial.engine) as session:
        assert judge_trial(quantised, session, ORDER, make_bench(evidence)).parity is None
        parity = judge_trial(quantised, session, ORDER, make_bench(of_graph)).parity
    assert parity is not None
    assert parity.passed


def test_try_graph_judges_on_calibration_images_alone(tmp_path: Path, evidence: Evidence) -> None:
    graph = GraphFile(write_classifier(tmp_path / "tiny.onnx"), {})
    tried = try_graph(graph, "fp32", ORDER, Bench(evidence, StageCache(tmp_path / "cache")))
    assert tried.variant.choice_accuracy is not None
    assert tried.variant.choice_accuracy.agreement == 5
    assert (tried.variant.accuracy, tried.variant.parity) == (None, None)


def test_try_graph_when_the_engine_does_not_run_gives_the_reason(
    tmp_path: Path, evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise DeviceError("out of memory", "")

    monkeypatch.setattr("edgevit.build.judge.open_engine", refuse)
    graph = GraphFile(write_classifier(tmp_path / "tiny.onnx"), {})
    tried = try_graph(graph, "fp32", ORDER, Bench(evidence, StageCache(tmp_path / "cache")))
    assert (tried.engine, tried.variant.status, tried.variant.reason) == (None, "NOT SUPPORTED", "out of memory")


@pytest.mark.parametrize(
    ("floats", "tier", "words"),
    [
        ("bf16", "avx512_bf16", "arithmetic in bf16 under AVX512-BF16"),
        ("f32", "avx2", "overflow 16 bits under AVX2"),
        ("f32", "amx", "fused attention in int8 under AMX"),
        ("f32", "avx512_vnni", ""),
    ],
)
def test_an_int8_engine_that_computes_something_else_says_what_is_probably_the_cause(
    evidence: Evidence, trial: Trial, monkeypatch: pytest.MonkeyPatch, floats: str, tier: str, words: str
) -> None:
    assert trial.engine is not None
    engine = dataclasses.replace(
        trial.engine, backend="openvino", precision="int8", settings={"inference_precision": floats}
    )
    int8 = Trial(dataclasses.replace(trial.variant, name="int8", precision="int8"), engine)
    wrong = dataclasses.replace(evidence, graph_outputs={"int8": (-evidence.outputs[0],)})
    monkeypatch.setattr("edgevit.build.judge.read_tier", lambda: tier)
    with open_engine(trial.engine) as session:
        parity = judge_trial(int8, session, ORDER, make_bench(wrong)).parity
    assert parity is not None
    assert not parity.passed
    assert words in parity.reason
    assert ("likely cause" in parity.reason) is bool(words)


class Wrong(Session):
    """Gives zeros."""

    def __init__(self, outputs: tuple[TensorSpec, ...]) -> None:
        self.outputs = outputs

    def run_outputs(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(np.zeros((len(batch), int(spec.shape[-1])), np.float32) for spec in self.outputs)


@pytest.mark.parametrize(("task", "outputs"), [(Task("classify"), 1), (Task("classify", scores="identity"), 3)])
def test_parity_counts_no_top1_where_there_is_no_order_of_classes(task: Task, outputs: int) -> None:
    """Case 09: the first of one output is the same whatever the engine gives."""
    pixels = make_images(2)
    wanted = np.ones((2, outputs), np.float32)
    evidence = Evidence(PREPROCESS, pixels, (wanted,), task)
    trial = Trial(Variant("fp32", "fp32", 1))
    variant = judge_trial(
        trial, Wrong((TensorSpec("logits", ("batch", outputs), "float32"),)), ORDER, make_bench(evidence)
    )
    assert variant.parity is not None
    assert not variant.parity.passed
    assert variant.parity.agreement is None
