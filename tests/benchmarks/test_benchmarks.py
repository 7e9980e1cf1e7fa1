"""The benchmark's table of bars and its Markdown, on made-up figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import ablate_int8, bench_embed, bench_foreign, bench_fusion, bench_memory, memory_limit, memory_table
from benchmarks.bars import BARS, NNCF_BEST, Bar, judge_bars
from benchmarks.gemm_rate import GemmSession
from benchmarks.int8_accuracy import compare_flips, summarize_accuracy
from benchmarks.int8_models import MODELS
from benchmarks.int8_table import render_table, show_figure
from benchmarks.peer_quantizers import PeerError, find_modelopt, quantize_modelopt
from benchmarks.peers import PeerSession
from edgevit.checkpoints.architectures import find_architecture
from edgevit.measure.latency import measure_latency
from edgevit.pixels.images import ImageSet
from tests.support.small_models import make_preprocess

pytestmark = pytest.mark.bench

MACHINE = {"cpu": "Some CPU", "usable_cores": 2, "virtual": True, "packages": {"nncf": "3.4.0", "openvino": "1"}}


def _figures(agreement: float, sqnr: float) -> dict[str, Any]:
    return {
        "images": 600,
        "agreement_percent": {"value": agreement, "low": agreement - 1, "high": agreement + 0.5},
        "sqnr_db": {"value": sqnr, "low": sqnr - 0.4, "high": sqnr + 0.4},
        "top1_percent": {"value": 85.0},
        "drop_points": {"value": 0.5, "low": -0.2, "high": 1.2},
        "lost": 4,
        "gained": 1,
    }


def _rows() -> dict[str, Any]:
    latency = {
        "engines": {"ours": {"p50_ms": 8.0, "p90_ms": 9.0}, "NNCF default, dynamo": {"p50_ms": 10.0, "p90_ms": 12.0}},
        "ratios": {"NNCF default, dynamo": {"value": 0.8, "low": 0.79, "high": 0.81}},
        "ratio": {"value": 0.8, "low": 0.79, "high": 0.81},
        "distance": {
            "gmacs": 1.2,
            "best_gmacs_per_second": 300.0,
            "best_shape": "1×2×3",
            "ideal_ms": 4.0,
            "ratio": {"value": 2.0, "low": 1.9, "high": 2.1},
        },
    }
    accuracy = {
        "ours": _figures(99.0, 24.5),
        "NNCF default, dynamo": _figures(97.5, 18.0),
        "NNCF α 0.5, torchscript": _figures(99.0, 20.0),
        "Model Optimizer INT8": {"note": "not installed"},
    }
    cost = {
        "images": 512,
        "quantisers": {"ours": {"seconds": 60.0, "peak_bytes": 2**30}},
        "seconds_ratio": {"value": 2.5},
        "memory_ratio": {"value": 0.5},
    }
    return {"swin_imagenette": {"latency": latency, "accuracy": accuracy}, "vit_base_patch16_224": {"cost": cost}}


def test_bars_when_listed_name_models_that_are_run_and_accuracy_of_real_weights_alone() -> None:
    models = {bench.name: bench for bench in MODELS}
    assert {bar.model for bar in BARS} <= set(models)
    assert all(models[bar.model].real for bar in BARS if bar.path[0] == "accuracy")
    assert all(models[bar.model].cost for bar in BARS if bar.path[0] == "cost")


@pytest.mark.parametrize(
    ("relation", "limit", "expected"),
    [
        ("≥", 99.0, "met"),  # the figure is 99.0
        ("≥", 99.01, "MISSED"),
        ("≤", 99.0, "met"),
        ("≤", 98.9, "MISSED"),
        (">", 98.9, "met"),
        (">", 99.0, "MISSED"),
        (">", NNCF_BEST, "MISSED"),  # NNCF's best has 99.0 too: not ahead
    ],
)
def test_bar_when_figure_is_at_or_beside_the_limit_is_judged_by_its_relation(
    relation: Any, limit: float | str, expected: str
) -> None:
    bar = Bar("swin_imagenette", ("accuracy", "ours", "agreement_percent"), "agreement", relation, limit)
    (outcome,) = judge_bars(_rows(), (bar,))
    assert outcome.status == expected
    assert (outcome.value, outcome.low, outcome.high) == (99.0, 98.0, 99.5)


def test_peer_bar_when_several_peers_were_measured_takes_the_best_of_each_figure() -> None:
    bar = Bar("swin_imagenette", ("accuracy", "ours", "sqnr_db"), "SQNR", ">", NNCF_BEST)
    (outcome,) = judge_bars(_rows(), (bar,))
    assert (outcome.limit, outcome.status) == (20.0, "met")


def test_bars_when_a_model_or_section_or_peer_is_absent_are_not_measured() -> None:
    absent = (
        Bar("other", ("latency", "ratio"), "", "≤", 1.0),
        Bar("vit_base_patch16_224", ("latency", "ratio"), "", "≤", 1.0),
        Bar("vit_base_patch16_224", ("accuracy", "ours", "sqnr_db"), "", ">", NNCF_BEST),
    )
    assert [outcome.status for outcome in judge_bars(_rows(), absent)] == ["not measured"] * 3


def test_table_when_rendered_shows_every_section_and_whole_rows() -> None:
    text = render_table(json.loads(json.dumps({"machine": MACHINE, "rows": _rows()})))
    for title in ("Bars", "Accuracy", "Latency", "Distance", "Cost"):
        assert f"## {title}" in text
    assert "openvino 1, nncf 3.4.0" in text
    assert "| `swin_imagenette` | logit SQNR, dB | > NNCF's best (20.00) | 24.50 (24.10 to 24.90) | met |" in text
    assert "| 0.800 (0.790 to 0.810) |" in text
    assert "not installed" in text
    assert "| 0.50 (-0.20 to 1.20) | 4 lost, 1 won, p 0.38 |" in text
    deit = render_table({"machine": MACHINE, "rows": {"deit_tiny_imagenet": _rows()["swin_imagenette"]}})
    assert "| top-1 drop, points | ≤ 0.34 | 0.50 (-0.20 to 1.20); 4 lost, 1 won, p 0.38 | MISSED |" in deit
    widths: dict[str, set[int]] = {}
    title = ""
    for line in text.splitlines():
        title = line if line.startswith("## ") else title
        if line.startswith("|"):
            widths.setdefault(title, set()).add(line.count("|"))
    assert all(len(found) == 1 for found in widths.values())


def test_table_when_only_one_section_was_run_leaves_out_the_others() -> None:
    text = render_table({"machine": MACHINE, "rows": {"vit_base_patch16_224": _rows()["vit_base_patch16_224"]}})
    assert "## Cost" in text
    assert "## Latency" not in text
    assert "not measured" in text


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        (None, "–"),
        ({"value": None}, "–"),
        ({"value": 0.0}, "0.00"),
        ({"value": 1, "low": 0, "high": 2}, "1.00 (0.00 to 2.00)"),
    ],
)
def test_figure_when_shown_has_its_interval_where_there_is_one(figure: Any, expected: str) -> None:
    assert show_figure(figure, 2) == expected


def test_accuracy_when_summarised_equals_the_formulas() -> None:
    generator = np.random.default_rng(0)
    reference = generator.normal(size=(200, 5)).astype(np.float32)
    logits = (reference + generator.normal(scale=0.1, size=reference.shape)).astype(np.float32)
    labels = generator.integers(0, 5, 200)
    found = summarize_accuracy(logits, reference, ImageSet(Path(), tuple(map(str, range(200))), tuple(labels.tolist())))
    ours, theirs = logits.argmax(1), reference.argmax(1)
    noise = ((logits.astype(np.float64) - reference) ** 2).sum()
    sqnr = 10 * np.log10((reference.astype(np.float64) ** 2).sum() / noise)
    assert found["agreement_percent"]["value"] == pytest.approx(100 * (ours == theirs).mean())
    assert found["sqnr_db"]["value"] == pytest.approx(sqnr)
    assert found["sqnr_db"]["low"] < sqnr < found["sqnr_db"]["high"] < found["sqnr_db"]["low"] + 2
    drop = 100 * ((theirs == labels).mean() - (ours == labels).mean())
    assert found["drop_points"]["value"] == pytest.approx(drop)
    assert found["drop_points"]["low"] <= drop <= found["drop_points"]["high"]


@pytest.mark.parametrize(
    ("lost", "gained", "p"), [(0, 0, 1.0), (3, 0, 2 / 8), (1, 5, 2 * 7 / 64), (3, 2, 1.0), (6, 0, 2 / 64)]
)
def test_flips_when_compared_give_the_binomial_tails_of_an_even_coin(lost: int, gained: int, p: float) -> None:
    assert compare_flips(lost, gained) == pytest.approx(p)


@pytest.mark.parametrize(
    ("python", "said"), [(sys.executable, "exit 1: .*modelopt"), ("/absent/python", "No such file or directory")]
)
def test_modelopt_when_it_does_not_run_fails_with_what_was_said(tmp_path: Path, python: str, said: str) -> None:
    pixels, out = [np.zeros((1, 8, 8, 3), np.uint8)], tmp_path / "out.onnx"
    if "modelopt" in said and find_modelopt(None):
        pytest.skip("installed here")
    with pytest.raises(PeerError, match=said):
        quantize_modelopt(python, tmp_path / "in.onnx", out, pixels, make_preprocess(8, 8), "max")
    assert not list(tmp_path.iterdir())


def test_stand_ins_for_sessions_when_timed_in_turns_are_called_as_sessions_are() -> None:
    batch = np.zeros((1, 8, 8, 3), np.uint8)
    peer = PeerSession(lambda pixels: pixels.reshape(1, -1), make_preprocess(8, 8), batch, threads=1)
    sessions: Any = {"peer": peer, "product": GemmSession((32, 16, 16), threads=1)}
    found = measure_latency(sessions, batch, runs=4, seconds=0, rounds=2, warmup_runs=1, warmup_seconds=0)
    assert set(found.latencies) == {"peer", "product"}
    assert peer.answer(batch).shape == (1, 3 * 8 * 8)


def test_memory_table_when_rendered_names_the_stage_of_the_peak_and_the_mapped_part() -> None:
    row = {
        "model": "swin", "precision": "fp32", "checkpoint_bytes": 100 << 20, "start_bytes": 20 << 20,
        "peak_bytes": 250 << 20, "peak_mapped_bytes": 90 << 20, "stages": {"export": 3, "latency": 4, "read": 1},
        "ratio": 2.5, "bar": 3.0, "met": True,
    }  # fmt: skip
    text = memory_table.render_table({"machine": MACHINE, "rows": [row, {**row, "bar": None}]})
    assert "| `swin` | fp32 | 100 MiB | 20 MiB | 250 MiB | 90 MiB | 2.50 | ≤ 3 | latency |" in text
    assert "| 2.50 | – | latency |" in text
    assert "enforces" not in text


def test_memory_table_when_limits_were_tried_says_how_each_ended() -> None:
    limit = {"model": "swin", "precision": "fp32", "limit_gib": 2.5, "passed": True, "status": 0}
    limit |= {"checkpoint_bytes": 1 << 30}
    built = {**limit, "peak_bytes": 2 << 30, "stages": {"quantize": 4, "latency": 3}}
    failed = {**limit, "limit_gib": 2.0, "passed": False, "status": -9}
    text = memory_table.render_table({"machine": MACHINE, "rows": [], "limits": [built, failed]})
    assert "| `swin` | fp32 | 2.5 GiB | 2,048 MiB | 2.00 | quantize | a bundle |" in text
    assert "| `swin` | fp32 | 2 GiB | – | – | – | exit -9 |" in text


@pytest.mark.skipif(not os.access("/sys/fs/cgroup/memory", os.W_OK), reason="takes root and control groups")
@pytest.mark.parametrize(("mib", "status"), [(16, 0), (256, -9)])
def test_limit_memory_ends_a_process_that_needs_more(mib: int, status: int) -> None:
    code = f"print(len(bytes(b'x') * ({mib} << 20)))"
    with memory_limit.limit_memory(96 << 20) as enter:
        done = subprocess.run([sys.executable, "-c", code], check=False, preexec_fn=enter, stdout=subprocess.PIPE)
    assert done.returncode == status
    assert not list(Path("/sys/fs/cgroup/memory").glob(f"edgevit-bench-{os.getpid()}"))


@pytest.mark.parametrize("case", dict.fromkeys([*bench_memory.BARS, *bench_memory.LIMITED]))
def test_memory_case_when_listed_is_an_architecture_and_a_precision(case: str) -> None:
    name, precision = case.split(":")
    assert find_architecture(name) is not None
    assert precision in ("fp32", "fp16", "int8")


def _fusion_row(**changes: Any) -> dict[str, Any]:
    record = {
        "device": "SM86",
        "attention": {f"blocks.{i}.attn": "fp16" for i in range(12)},
        "products": {"int8": 34, "fp16": 15},
        "moves": ["a", "b"],
    }
    row = {"model": "deit_tiny_patch16_224", "precision": "int8", "layers": 111, "bar": 112, "blocks": 12}
    return {**row, "identical": True, "plan_bytes": 1, "record": record, **changes}


def test_fusion_row_when_every_bar_is_met_says_so_in_the_table() -> None:
    assert bench_fusion.judge_row(_fusion_row(layers=112)) == ()
    table = bench_fusion.render_table([_fusion_row(), _fusion_row(bar=None)], "tensorrt_rtx 1")
    head, _, titles, rule, first, second = table.splitlines()
    assert "tensorrt_rtx 1 without a GPU" in head
    assert "Nothing was run" in head
    assert titles.count("|") == rule.count("|") == first.count("|") == second.count("|")
    cells = [cell.strip() for cell in first.strip("|").split("|")]
    wanted = ["111", "≤ 112", "12 of 12 (fp16)", "34 int8, 15 fp16", "2", "0", "met"]
    assert cells == ["`deit_tiny_patch16_224`", "int8", "SM86", *wanted]
    assert "| – |" in second


def test_fusion_row_when_bars_are_missed_names_each() -> None:
    record = {**_fusion_row()["record"], "attention": {"blocks.0.attn": "fp16"}}
    missed = bench_fusion.judge_row(_fusion_row(layers=113, identical=False, record=record))
    assert missed == ("113 layers of at most 112", "attention fused in 1 of 12 blocks", "two builds differ")
    assert "; ".join(missed) in bench_fusion.render_table(
        [_fusion_row(layers=113, identical=False, record=record)], "x"
    )
    assert bench_fusion.judge_row(_fusion_row(layers=999, bar=None)) == ()


def test_fusion_bars_when_listed_are_of_engines_that_are_built() -> None:
    built = {(model, precision) for model in bench_fusion.MODELS for precision, _ in bench_fusion.ENGINES}
    assert set(bench_fusion.LAYER_BARS) <= built


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, 0),
        ({"ratio": {"value": 1.031}}, 1),
        ({"agreed": 599}, 1),
        ({"relative_error": 2e-4, "operator_differences": {"Add": [1, 2]}}, 2),
    ],
)
def test_foreign_row_when_bars_are_missed_names_each(change: dict[str, Any], missed: int) -> None:
    row = {"ratio": {"value": 1.03}, "bar": bench_foreign.BAR, "relative_error": 1e-5, "operator_differences": {}}
    row |= {"agreed": 600, "images": 600}
    assert len(bench_foreign.judge_row(row | change)) == missed


def _ablation_row(images: int, cpu: str, **sqnr: float) -> dict[str, Any]:
    variants = {name: {"sqnr": value} for name, value in sqnr.items()}
    return {"machine": {"cpu": cpu}, "calibration_images": images, "variants": variants}


def test_ablation_when_some_variants_are_run_keeps_the_others_in_the_order_of_the_table() -> None:
    names = list(ablate_int8.CHANGES)
    before = _ablation_row(256, "A", **{names[3]: 3.0, "of another time": 4.0, names[1]: 1.0})
    row = ablate_int8.merge_row(_ablation_row(256, "A", **{names[2]: 2.5, names[1]: 1.5}), before)
    found = [(name, figures["sqnr"]) for name, figures in row["variants"].items()]
    assert found == [(names[1], 1.5), (names[2], 2.5), (names[3], 3.0), ("of another time", 4.0)]
    with pytest.raises(ValueError, match="run all of them"):
        ablate_int8.merge_row(_ablation_row(512, "A"), before)


def test_ablation_when_variants_are_of_another_machine_marks_them_and_replaces_none() -> None:
    name = next(iter(ablate_int8.CHANGES))
    row = ablate_int8.merge_row(_ablation_row(256, "B", **{name: 2.0}), _ablation_row(256, "A", **{name: 1.0}))
    marked = row["variants"].pop(name + ablate_int8.OTHER_MACHINE)
    assert (marked["sqnr"], marked["machine"]["cpu"]) == (2.0, "B")
    assert (row["variants"], row["machine"]["cpu"]) == ({name: {"sqnr": 1.0}}, "A")


def _embed_row(**changes: Any) -> dict[str, Any]:
    accuracy = {
        "images": 600, "labelled": True, "agreement": 588, "agreement_low": 0.96, "agreement_high": 0.99, "top1": 282,
        "reference_top1": 284, "gained": 1, "lost": 3, "drop_points": 0.33, "drop_low": -0.3, "drop_high": 1.2,
        "sqnr_db": 27.2, "task": "embed", "cosine_mean": 0.9991, "cosine_min": 0.9872, "recall10": 0.973,
    }  # fmt: skip
    row = {"model": "deit_tiny_imagenet", "machine": MACHINE, "calibration_images": 512, "sites": 100}
    return {**row, "int8_sites": 90, "verdict": "int8", "accuracy": {**accuracy, **changes}}


def test_embed_row_when_rendered_shows_every_figure() -> None:
    text = bench_embed.render_table([_embed_row()])
    wanted = "0.9991 | 0.9872 | 27.2 | 98.00 | 97.30 | 47.00 | 47.33 | within budget |"
    assert f"| `deit_tiny_imagenet` | 512 | 600 | 90 of 100 | {wanted}" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    assert "Some CPU" in text


def test_embed_row_when_it_misses_the_budget_names_each_limit() -> None:
    assert bench_embed.judge_row(_embed_row(cosine_mean=0.99, drop_points=0.5)) == ()
    missed = bench_embed.judge_row(_embed_row(cosine_mean=0.98, drop_points=0.6))
    assert missed == ("mean cosine below 0.99", "kNN top-1 drops by more than 0.5 points")


@pytest.mark.parametrize("script", ["bench_float", "bench_int8", "bench_fusion", "bench_foreign", "bench_memory"])
def test_script_of_make_bench_when_imported_needs_no_package_of_the_tests_alone(script: str) -> None:
    absent = ("pytest", "hypothesis", "transformers")
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import benchmarks.{script}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
