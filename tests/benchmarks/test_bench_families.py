"""The families benchmark's judgement and table, on made-up figures."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from benchmarks.bench_families import judge_row
from benchmarks.family_models import MODELS, PUBLISHERS
from benchmarks.family_table import render_table

pytestmark = pytest.mark.bench


def _variant(name: str, **more: Any) -> dict[str, Any]:
    figures = {"agreement_percent": 75.0, "sqnr_db": 30.0, "cosine_mean": None, "worst_level_db": None}
    return {"name": name, "parity": {"passed": True, "reason": "equal"}, **figures, **more}


ROW: dict[str, Any] = {
    "model": "timm vit_tiny",
    "family": "ViT",
    "int8": {
        "chosen": "int8",
        "passed": True,
        "variants": [_variant("fp32"), _variant("int8")],
        "sites": {"int8": 10, "float": 2},
        "worst": {"head": 31.5},
        "notes": ["blocks: the residual stream is not rotated"],
    },
    "fp16": {"layers": 100, "fused": 12, "blocks": 12},
}


def test_models_when_listed_have_names_of_their_own_and_a_publisher() -> None:
    assert len({str(model) for model in MODELS}) == len(MODELS)
    assert {model.publisher for model in MODELS} <= set(PUBLISHERS)


def test_row_with_low_agreement_alone_is_sane() -> None:
    assert judge_row(ROW) == ()


@pytest.mark.parametrize(
    ("part", "key", "value", "fault"),
    [
        ("int8", "passed", False, "the verdict has not passed"),
        ("int8", "variants", [_variant("fp32")], "there is no int8"),
        ("int8", "variants", [_variant("int8", sqnr_db=12.0)], "int8 keeps 12.0 dB of 20"),
        ("int8", "variants", [_variant("int8", worst_level_db=19.0)], "int8 keeps 19.0 dB of 20"),
        ("int8", "variants", [_variant("int8", cosine_mean=0.98)], "the mean cosine is 0.9800"),
        (
            "int8",
            "variants",
            [_variant("fp32", parity={"passed": False, "reason": ""}), _variant("int8")],
            "fp32: parity failed",
        ),
        ("fp16", "fused", 11, "attention fused in 11 of 12 blocks"),
        ("fp16", "error", "the build ended with 2", "fp16: the build ended with 2"),
    ],
)
def test_row_with_a_fault_says_which(part: str, key: str, value: Any, fault: str) -> None:
    row = copy.deepcopy(ROW)
    row[part][key] = value
    assert judge_row(row) == (fault,)


def test_table_shows_figures_faults_notes_and_what_was_not_run() -> None:
    half = {"model": "timm swin", "family": "Swin", "fp16": {"layers": 90, "fused": 3, "blocks": 4}}
    pending = {"model": "timm clip", "family": "CLIP", "fp16": {"layers": 90, "fused": 4, "blocks": 4}}
    table = render_table({"machine": {"cpu": "Some CPU"}, "rows": [ROW, half, pending]}, judge_row)
    assert "| ViT | `timm vit_tiny` | int8 | 10 of 12 | 30.0 | 75 | – | `head` 31.5 | 100 | 12 of 12 | sane |" in table
    assert "| 90 | 3 of 4 | attention fused in 3 of 4 blocks |" in table
    assert "| 90 | 4 of 4 | int8 not run |" in table
    assert "- `timm vit_tiny`: blocks: the residual stream is not rotated" in table
