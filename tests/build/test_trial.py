"""One precision's graph becomes an engine, from the cache where it is there, or a reason why not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgevit.build.bench import Bench
from edgevit.build.evidence import Evidence
from edgevit.build.order import Order
from edgevit.build.trial import GraphFile, compile_graph, refuse_trial
from edgevit.core.cache import StageCache
from edgevit.core.errors import CompileError
from edgevit.core.recipe import Recipe
from edgevit.core.target import load_target
from edgevit.engines.openvino_faults import Fault
from edgevit.pixels.preprocess import Preprocess
from tests.support.tiny_onnx import SIZE, compute_logits, make_images, write_classifier

CPU = load_target("cpu")
PREPROCESS = Preprocess(SIZE, SIZE, "none", SIZE, SIZE, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
EVIDENCE = Evidence(PREPROCESS, make_images(1), (compute_logits(make_images(1)).astype(np.float32),))


def test_compile_graph_gives_an_engine_of_which_nothing_is_measured(tmp_path: Path) -> None:
    graph = GraphFile(write_classifier(tmp_path / "tiny.onnx"), {"weights": 0})
    told: list[tuple[str, int, int]] = []
    trial = compile_graph(
        graph,
        "fp16",
        Order(CPU),
        Bench(EVIDENCE, StageCache(tmp_path / "cache"), lambda *step: told.append(step)),
    )
    assert trial.engine is not None
    assert trial.variant.size_bytes == trial.engine.size_bytes > 0
    assert (trial.variant.name, trial.variant.status, trial.variant.parity) == ("fp16", "NOT MEASURED", None)
    assert told == [("compile fp16", 0, 1), ("compile fp16", 1, 1)]


def test_compile_graph_takes_the_engine_from_the_cache_unless_something_that_it_hangs_on_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, cache = GraphFile(write_classifier(tmp_path / "tiny.onnx"), {"weights": 0}), StageCache(tmp_path / "cache")
    bench = Bench(EVIDENCE, cache)
    first = compile_graph(graph, "fp32", Order(CPU), bench)

    def count(*args: object, **kwargs: object) -> None:
        raise CompileError("compiled again", "")

    monkeypatch.setattr("edgevit.build.trial.compile_engine", count)
    assert compile_graph(graph, "fp32", Order(CPU), bench) == first
    others = [
        (GraphFile(graph.path, {"weights": 1}), "fp32", Recipe()),
        (graph, "fp16", Recipe()),
        (graph, "fp32", Recipe(settings={"threads": 1})),
        (graph, "fp32", Recipe(batch=(1, 2, 2))),
    ]
    for file, precision, recipe in others:
        assert compile_graph(file, precision, Order(CPU, recipe), bench).variant.reason == "compiled again"


def test_compile_graph_when_the_library_refuses_the_file_gives_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(write_classifier(tmp_path / "tiny.onnx").read_bytes().replace(b"LayerNorm", b"LaxerNorm"))
    trial = compile_graph(GraphFile(path, {}), "fp32", Order(CPU), Bench(EVIDENCE, StageCache(tmp_path / "cache")))
    assert trial.engine is None
    assert trial.variant.status == "NOT SUPPORTED"
    assert "LaxerNorm" in trial.variant.reason
    assert "\n" not in trial.variant.reason


def test_refuse_trial_when_the_compiler_says_much_keeps_a_footnote_of_it() -> None:
    trial = refuse_trial("int8", CompileError("first line\n  second  line\n" + "x" * 1000, "do"))
    assert trial.variant.reason.startswith("first line second line xxx")
    assert len(trial.variant.reason) == 400
    assert trial.variant.reason.endswith(" …")


@pytest.mark.parametrize(
    ("precision", "floats", "settings", "executed"),
    [
        ("fp32", None, {}, "f32"),
        ("bf16", None, {}, "bf16"),
        ("int8", "bf16", {}, "bf16"),
        ("int8", None, {"inference_precision": "bf16"}, "bf16"),  # as a bundle's own recipe settles it
    ],
)
def test_known_faults_are_looked_for_in_the_type_that_the_engine_computes_in(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    floats: str | None,
    settings: dict[str, str],
    executed: str,
) -> None:
    asked = []

    def find(graph: object, executed: str, tier: str | None) -> tuple[Fault, ...]:
        asked.append(executed)
        return (Fault("in_place", "blocks.0", "it is known to be wrong"),)

    monkeypatch.setattr("edgevit.engines.openvino_faults.list_faults", find)
    graph = GraphFile(write_classifier(tmp_path / "tiny.onnx"), {}, floats=floats)
    target = dataclasses.replace(load_target("intel-cpu"), isa=("avx2",))
    trial = compile_graph(
        graph, precision, Order(target, Recipe(settings=settings)), Bench(EVIDENCE, StageCache(tmp_path / "cache"))
    )
    assert (trial.variant.status, trial.variant.reason) == ("NOT SUPPORTED", "it is known to be wrong")
    assert asked == [executed]
