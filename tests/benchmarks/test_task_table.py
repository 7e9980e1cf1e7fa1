"""The measured table of whole models: it is the results', and every class that is read has a row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.task_models import MODELS, TaskModel
from benchmarks.task_table import DOCUMENT, RESULTS, TABLE, list_misses, render_table, write_page
from edgevit.checkpoints.transformers.dense_tasks import DENSE_CLASSES, read_dense
from tests.support.reference import import_transformers

ROW: dict[str, Any] = {
    "parity": {"error": 2e-6},
    "quantize": {"sqnr_db": [31.0, 26.0], "nncf_sqnr_db": [20.0, 19.0]},
    "latency": {"ratio": [0.8, 0.7, 0.9]},
    "tensorrt": {"fused": 12},
}


def test_document_and_results_have_the_table_that_the_benchmark_writes() -> None:
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = DOCUMENT.read_text(encoding="utf-8")
    assert render_table(stored) in text
    assert text == write_page(text, stored)
    assert TABLE.read_text(encoding="utf-8") == render_table(stored)


def test_every_class_that_is_read_is_a_models_but_those_whose_encoder_and_neck_another_has() -> None:
    others = {"DPTForSemanticSegmentation", "Owlv2ForObjectDetection"}
    assert {*DENSE_CLASSES} - {model.kind for model in MODELS} == others
    assert len({model.name for model in MODELS}) == len(MODELS)


def test_row_within_all_bars_misses_nothing() -> None:
    assert list_misses(ROW, 12) == ()


@pytest.mark.parametrize(
    ("part", "figures", "missed"),
    [
        ("parity", {"error": 2e-4}, "parity"),
        ("quantize", {"sqnr_db": [31.0, 24.9]}, "noise"),
        ("latency", {"ratio": [0.91, 0.8, 1.0]}, "latency"),
        ("tensorrt", {"fused": 11}, "fusion"),
        ("tensorrt", {"reason": "no kernel"}, "does not compile"),
        ("quantize", {"failed": "out of memory"}, "quantize: out of memory"),
    ],
)
def test_row_outside_a_bar_names_it(part: str, figures: dict[str, Any], missed: str) -> None:
    assert list_misses({**ROW, part: figures}, 12) == (missed,)


def test_models_that_were_not_measured_say_so() -> None:
    stored = {"machine": {"cpu": "a", "isa": [], "cores": 2}, "versions": {}, "rows": {MODELS[0].name: ROW}}
    lines = render_table(stored).splitlines()[4:]
    assert len(lines) == len(MODELS)
    assert "not measured" not in lines[0]
    assert all(line.count("not measured") == 5 for line in lines[1:])


def test_model_that_chooses_queries_shows_its_noise_with_the_float_models_and_with_its_own() -> None:
    quantized = {"nncf_sqnr_db": [24.0], "nncf_own_choice_db": [5.5], "nncf_same_percent": 91.24}
    row = {**ROW, "quantize": {"sqnr_db": [31.0], "own_choice_db": [6.0], "same_percent": 98.0, **quantized}}
    assert list_misses(row, 12) == ()  # rows that change places are no noise
    stored = {"machine": {"cpu": "a", "isa": [], "cores": 2}, "versions": {}, "rows": {MODELS[0].name: row}}
    line = render_table(stored).splitlines()[4]
    assert "| 31.0; with its own queries, 98.0 % of them the same: 6.0 |" in line
    assert "| 24.0; with its own queries, 91.2 % of them the same: 5.5 |" in line


@pytest.mark.parametrize(("exact", "missed"), [(1e-6, ()), (1.2e-4, ("parity",))])
def test_parity_is_that_with_float64_where_float32_itself_is_off(exact: float, missed: tuple[str, ...]) -> None:
    row = {**ROW, "parity": {"error": 1.3e-4, "float64_error": exact, "float32_error": 1.3e-4}}
    assert list_misses(row, 12) == missed
    stored = {"machine": {"cpu": "a", "isa": [], "cores": 2}, "versions": {}, "rows": {MODELS[0].name: row}}
    cell = f"| {exact:.1e} with transformers in float64, of which its float32 is 1.3e-04 off |"
    assert cell in render_table(stored).splitlines()[4]


@pytest.mark.bench
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_models_are_whole_ones_of_transformers_with_the_blocks_that_are_named(model: TaskModel) -> None:
    import torch

    transformers = import_transformers()
    config, processor = model.make(transformers, {"height": model.size[0], "width": model.size[1]})
    with torch.device("meta"):
        module = getattr(transformers, model.kind)(config)
    backbone = getattr(config, "backbone_config", None) or config
    depths = getattr(backbone, "depths", None) or [backbone.num_hidden_layers]
    assert sum(depths) == model.blocks
    assert sum(value.numel() for value in module.parameters()) > 5e6
    task = read_dense({**config.to_dict(), "architectures": [model.kind]}, processor.to_dict(), None)
    assert (task.preprocess.height, task.preprocess.width) == model.size
