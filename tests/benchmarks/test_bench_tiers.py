"""The benchmark by tier: what is opened under which, ratios, bars, and the table; nothing is timed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import bench_tiers, tier_files, tier_timing
from benchmarks.int8_models import MODELS
from benchmarks.tier_bars import DEFAULT_TIERS, choose_engine, compare_engines, list_absent, list_bars
from benchmarks.tier_files import UNPADDED, TierFiles
from benchmarks.tier_table import list_outcomes, render_table
from benchmarks.tier_timing import Case, Found, Timing, correlate, measure_tier, plan_cases
from edgevit.core.engine import save_engine
from edgevit.core.isa import TIERS, TierName
from edgevit.core.report.report import Latency
from edgevit.core.target import load_target
from edgevit.engines.openvino import compile as compile_openvino
from edgevit.measure.latency import LatencyComparison
from tests.support.small_graphs import make_graph, make_pixels, run_graph
from tests.support.small_models import make_preprocess

pytestmark = pytest.mark.bench

MACHINE = {"cpu": "Some CPU", "usable_cores": 2, "virtual": True, "isa": ["avx2"], "packages": {"openvino": "1"}}
ENGINES = ("int8", "fp32", "bf16", f"int8 {UNPADDED}", f"fp32 {UNPADDED}", f"bf16 {UNPADDED}")


def _files(**faults: Any) -> TierFiles:
    exports = {name: Path(name) for name in ("torchscript", "dynamo")}
    return TierFiles({name: Path(name) for name in ENGINES}, faults, exports, exports, "digest", "code")


def _found(default: str = "f32", **p50: float) -> Found:
    """Timings by name, with ``_`` for spaces; every round like the others."""
    names = {name.replace("__", ", ").replace("_", " "): value for name, value in p50.items()}
    latencies = {n: Latency(1, 2, 1, 1.0, v, v, v, v, 0.0, v, "made up") for n, v in names.items()}
    return Found(LatencyComparison(latencies, {n: (v, v) for n, v in names.items()}), {}, {}, default)


def _figures(agreement: float, sqnr: float) -> dict[str, Any]:
    return {"images": 600, "agreement_percent": {"value": agreement}, "sqnr_db": {"value": sqnr}}


def _column(**changes: Any) -> dict[str, Any]:
    column = {
        "default": "f32",
        "engines": {"int8": {"p50_ms": 7.125}},
        "ratios": {"float32": {"value": 0.8, "low": 0.79, "high": 0.81, "ours": "int8", "other": "NNCF default, x"}},
        "accuracy": {"int8": _figures(99.5, 25.0)},
        "refused": {},
        "wrong": {},
        "load_average": [0.25, 0, 0],
    }
    return {**column, **changes}


def _data(**columns: Any) -> dict[str, Any]:
    rows = {"deit_tiny_imagenet": {"tiers": columns}}
    found: dict[str, Any] = json.loads(json.dumps({"machine": MACHINE, "absent": ["amx"], "rows": rows}))
    return found


@pytest.mark.parametrize("tier", TIERS)
def test_bars_when_listed_name_models_that_are_run_and_accuracy_of_real_weights_alone(tier: TierName) -> None:
    models = {bench.name: bench for bench in MODELS}
    bars = list(list_bars(tier))
    assert {bar.path[:2] for bar in bars} == {("tiers", tier)}
    assert {bar.model for bar in bars} <= set(models)
    assert all(models[bar.model].real for bar in bars if bar.path[2] == "accuracy")


def test_bars_when_listed_are_those_of_the_tiers_instructions() -> None:
    def find(tier: TierName) -> set[tuple[str, str, float | str]]:
        return {("/".join(b.path[3:]), b.relation, b.limit) for b in list_bars(tier)}

    agreement, sqnr = ("int8/agreement_percent", "≥", 99.0), ("int8/sqnr_db", "≥", 26.0)
    bf16 = {("bf16/agreement_percent", "≥", 99.0), ("bf16/sqnr_db", "≥", 35.0)}
    assert find("avx2") == {agreement, ("int8/sqnr_db", "≥", 24.0)}
    assert find("avx2_vnni") == find("avx512_vnni") == {agreement, sqnr, ("float32", "≤", 0.78)}
    assert find("avx512_bf16") == find("avx512_vnni") | bf16 | {("default", "≤", 0.78)}
    assert find("amx") == find("amx_fp16") == {agreement, sqnr, *bf16, ("chosen", "≤", 0.75)}


def test_absent_tiers_when_listed_are_the_usual_and_the_asked_for_from_the_oldest() -> None:
    able: list[TierName] = ["sse4.1", "avx2", "avx512", "avx512_vnni"]
    assert list_absent((), able) == ("avx2_vnni", "avx512_bf16", "amx")
    assert list_absent(("amx_fp16", "avx512"), able) == ("avx2_vnni", "avx512_bf16", "amx", "amx_fp16")
    assert list_absent((), tuple(TIERS)) == ()


@pytest.mark.parametrize(
    ("able", "asked", "expected"),
    [
        (["sse4.1", "avx2", "avx512", "avx512_vnni"], None, ("avx2", "avx512_vnni")),
        (["sse4.1", "avx2", "avx2_vnni", "avx2_vnni_2"], None, ("avx2", "avx2_vnni", "avx2_vnni_2")),
        (["sse4.1", "avx2", "avx512"], ["avx512", "sse4.1", "amx"], ("sse4.1", "avx512")),
    ],
)
def test_tiers_when_chosen_are_the_usual_and_the_newest_or_what_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, able: Any, asked: Any, expected: tuple[str, ...]
) -> None:
    monkeypatch.setattr(bench_tiers, "list_tiers", lambda: tuple(able))
    assert bench_tiers.choose_tiers(asked) == expected


def test_cases_when_planned_are_the_variants_of_a_build_and_each_peer_in_two_forms() -> None:
    planned = plan_cases(_files(), "avx512_bf16")
    ours = {case.name: (case.path.name, case.floats) for case in planned.cases if case.ours}
    assert ours == {
        "int8": ("int8", "f32"),
        "int8-bf16": ("int8", "bf16"),
        "bf16": ("bf16", "bf16"),
        "fp32": ("fp32", "f32"),
        **{name: (name, "bf16" if name.startswith("bf16") else "f32") for name in ENGINES if UNPADDED in name},
    }
    peers = {case.name: (case.path.name, case.floats) for case in planned.cases if not case.ours}
    assert len(peers) == 8
    assert peers["NNCF default, dynamo, float32"] == ("dynamo", "f32")
    assert peers["timm, float, torchscript, OpenVINO's default"] == ("torchscript", None)
    assert not planned.refused


def test_cases_when_the_tier_has_no_bfloat16_have_none_of_ours_in_it() -> None:
    ours = {case.name: case.floats for case in plan_cases(_files(), "avx512_vnni").cases if case.ours}
    assert set(ours) == {"int8", "fp32", f"int8 {UNPADDED}", f"fp32 {UNPADDED}"}
    assert set(ours.values()) == {"f32"}


def test_cases_when_openvino_is_known_to_compute_one_wrongly_refuse_it_with_the_reason() -> None:
    files = _files(int8={"bf16": {"avx512_bf16": "a bias"}}, bf16={"bf16": {"amx": "only there"}})
    planned = plan_cases(files, "avx512_bf16")
    assert planned.refused == {"int8-bf16": "a bias"}
    assert {"int8", "bf16"} <= {case.name for case in planned.cases}
    assert "int8-bf16" not in {case.name for case in planned.cases}


def test_ratios_when_computed_are_against_the_faster_export_in_the_same_form() -> None:
    found = _found(
        "bf16",
        int8=6.0,
        **{"int8-bf16": 5.0},
        bf16=4.0,
        fp32=12.0,
        int8_without_padding=8.0,
        NNCF_default__torchscript__float32=10.0,
        NNCF_default__dynamo__float32=8.0,
        **{"NNCF default, torchscript, OpenVINO's default": 16.0, "NNCF default, dynamo, OpenVINO's default": 20.0},
        timm__float__dynamo__float32=15.0,
    )
    ratios = compare_engines(found, {})
    assert {key: (r["ours"], r["other"], pytest.approx(r["value"])) for key, r in ratios.items()} == {
        "float32": ("int8", "NNCF default, dynamo, float32", 0.75),
        "default": ("int8-bf16", "NNCF default, torchscript, OpenVINO's default", 5 / 16),
        "chosen": ("bf16", "NNCF default, dynamo, float32", 0.5),
        "float in float32": ("fp32", "timm, float, dynamo, float32", 0.8),
        "padding, int8": ("int8", f"int8 {UNPADDED}", 0.75),
    }


def test_ratios_when_the_default_is_float32_have_no_second_form() -> None:
    found = _found(int8=6.0, fp32=9.0, NNCF_default__dynamo__float32=8.0, timm__float__dynamo__float32=15.0)
    assert set(compare_engines(found, {})) == {"float32", "chosen", "float in float32"}


def test_engine_when_chosen_is_the_fastest_that_keeps_the_agreement() -> None:
    p50 = {"int8": 1.0, "bf16": 2.0, "fp32": 3.0, f"int8 {UNPADDED}": 0.5, "NNCF default, dynamo, float32": 0.1}
    assert choose_engine(p50, {}) == "int8"
    assert choose_engine(p50, {"int8": _figures(98.9, 20.0), "bf16": _figures(99.0, 36.0)}) == "bf16"
    assert choose_engine({"int8": 1.0}, {"int8": _figures(1.3, -3.0)}) == ""


def test_outcomes_when_judged_are_of_each_models_own_tiers() -> None:
    data = _data(avx2=_column(), avx512_vnni=_column(ratios={}))
    found = {(o.bar.path[1], o.bar.path[3:]): o.status for o in list_outcomes(data["rows"])}
    assert found == {
        ("avx2", ("int8", "agreement_percent")): "met",
        ("avx2", ("int8", "sqnr_db")): "met",  # 25 dB: products saturate there
        ("avx512_vnni", ("int8", "agreement_percent")): "met",
        ("avx512_vnni", ("int8", "sqnr_db")): "MISSED",
        ("avx512_vnni", ("float32",)): "not measured",
    }


def test_table_when_rendered_has_a_column_a_tier_from_the_oldest_and_names_those_that_are_absent() -> None:
    newest = _column(
        default="bf16",
        engines={"int8": {"p50_ms": 5.0}, "bf16": {"p50_ms": 4.0}},
        refused={"int8-bf16": "a bias of as many numbers as keys"},
        wrong={"NNCF default, dynamo, float32": 0.125},
        ratios={"chosen": {"value": 0.7, "low": 0.6, "high": 0.8, "ours": "bf16", "other": "x"}},
        accuracy={},
    )
    text = render_table(_data(avx512_bf16=newest, avx2=_column()))
    assert "does not have them: AMX (avx512f," in text
    assert "|  | AVX2 | AVX512-BF16 |" in text
    assert "| load average before | 0.2 | 0.2 |" in text
    assert "| images judged | 600 | – |" in text
    assert "| OpenVINO's default computes in | f32 | bf16 |" in text
    assert "| int8: p50, ms | 7.12 | 5.00 |" in text
    assert "| bf16: p50, ms | – | 4.00 |" in text
    assert "| int8-bf16: p50, ms | – | refused |" in text
    assert "| NNCF default, dynamo, float32: p50, ms | – | wrong (correlation 0.12) |" in text
    assert "| int8 over NNCF's faster, float32 around both | 0.800 (0.790 to 0.810) | – |" in text
    assert "| – | bf16: 0.700 (0.600 to 0.800) |" in text
    assert "| int8: logit SQNR, dB | 25.0 | – |" in text
    assert "AVX512-BF16, int8-bf16 is refused: a bias of as many numbers as keys." in text
    assert "| `deit_tiny_imagenet` | AVX2 | int8: logit SQNR, dB | ≥ 24.0 | 25.00 | met |" in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 2
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)


def test_table_when_no_tier_is_absent_says_so() -> None:
    assert "has all of the usual tiers" in render_table({**_data(avx2=_column()), "absent": []})


@pytest.mark.parametrize(("key", "value"), [("cpu", "Another CPU"), ("isa", ["avx2", "avx512_vnni"])])
def test_rows_when_of_another_processor_are_dropped(tmp_path: Path, key: str, value: Any) -> None:
    file = tmp_path / "tiers.json"
    assert bench_tiers.read_rows(file, MACHINE) == {}
    file.write_text(json.dumps(_data(avx2=_column())))
    assert set(bench_tiers.read_rows(file, MACHINE)) == {"deit_tiny_imagenet"}
    assert bench_tiers.read_rows(file, {**MACHINE, key: value}) == {}


def test_default_floats_when_the_tier_has_no_bfloat16_are_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tier_timing, "read_tier", lambda: "avx2")  # OpenVINO asks the processor, not the limit
    assert tier_timing.read_default_floats() == "f32"


def test_default_floats_when_openvino_is_asked_are_a_type_that_it_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(tier_timing, "read_tier", lambda: "avx512_bf16")
    assert tier_timing.read_default_floats() in ("f32", "bf16", "f16")


def test_correlation_when_an_answer_is_constant_or_not_finite_is_no_likeness() -> None:
    expected = np.arange(4, dtype=np.float32)
    assert correlate(2 * expected + 1, expected) == pytest.approx(1)
    for answer in (np.zeros(4, np.float32), np.full(4, np.nan, np.float32)):
        assert not correlate(answer, expected) >= tier_timing.LEAST_LIKENESS


def test_engines_when_opened_together_answer_alike_and_one_of_another_model_is_named(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    graph, images = make_graph("vit"), make_pixels("vit", 3)
    (expected,), pixels = run_graph(graph, images), np.concatenate(images)
    graph.save(tmp_path / "vit.onnx")
    (tmp_path / "fp32").mkdir()
    engine = compile_openvino(tmp_path / "vit.onnx", load_target("intel-cpu"), "fp32", tmp_path / "fp32", {})
    save_engine(engine)
    other = _save_other(tmp_path / "other.onnx", expected.shape[1], pixels.shape[1:3])
    np.save(tmp_path / "images.npy", pixels)
    height, width = pixels.shape[1:3]
    found = measure_tier(
        (Case("fp32", tmp_path / "fp32", "f32", ours=True), Case("NNCF default, other, float32", other, "f32")),
        make_preprocess(height, width),
        pixels[:1],
        expected[:1],
        tmp_path / "images.npy",
        Timing(seconds=0, runs=2, rounds=2),
    )
    assert set(found.latency.latencies) == {"fp32"}
    assert set(found.wrong) == {"NNCF default, other, float32"}
    np.testing.assert_allclose(found.logits["fp32"], expected, atol=1e-4 * np.abs(expected).max())


def _save_other(path: Path, classes: int, size: tuple[int, ...]) -> Path:
    """A model whose answer is the same for every image."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    zeros = numpy_helper.from_array(np.zeros((1, classes), np.float32), "zeros")
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Mul", ["zeros", "top"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, *size])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, classes])]
    graph = helper.make_graph(nodes, "other", inputs, outputs, [zeros])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_folder_when_its_making_fails_is_not_taken_for_whole(tmp_path: Path) -> None:
    folder = tmp_path / "peer"

    def fail(new: Path) -> None:
        (new / "half").touch()
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        tier_files._make_folder(folder, fail)
    assert not folder.exists()
    tier_files._make_folder(folder, lambda new: (new / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]
    tier_files._make_folder(folder, fail)  # it is there: nothing is made


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., TierFiles]:
    """``prepare_files`` whose quantisers and compilers write a word."""

    def compile_engine(path: Path, target: Any, precision: str, directory: Path) -> Any:
        directory.mkdir()
        (directory / "model.xml").write_text(path.read_text() + precision)
        return SimpleNamespace(directory=directory, files=("model.xml",))

    def quantize_nncf(source: Path, out: Path, *_: Any) -> None:
        assert source.read_text() in ("torchscript", "dynamo")
        out.touch()

    graph = tmp_path / "graph.onnx"
    graph.write_text("graph")
    monkeypatch.setattr(tier_files, "compile_engine", compile_engine)
    monkeypatch.setattr(tier_files, "quantize_nncf", quantize_nncf)
    monkeypatch.setattr(tier_files, "export_timm", lambda m, s, exporter, path: path.write_text(exporter) and path)
    monkeypatch.setattr(tier_files, "_list_faults", lambda path: {})
    monkeypatch.setattr(tier_files, "_prepare_graphs", lambda *_: {"int8": graph, f"int8 {UNPADDED}": graph})
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1")
    model: Any = SimpleNamespace(
        source=SimpleNamespace(identity="weights"), preprocess=None, config=SimpleNamespace(image_size=(8, 8))
    )

    def call(said: list[str], code: str = "code", images: str = "images", **options: Any) -> TierFiles:
        monkeypatch.setattr(tier_files, "_digest_code", lambda: code)
        found: Any = SimpleNamespace(sha256=lambda: images, batches=lambda *_: ())
        return tier_files.prepare_files(model, None, found, tmp_path / "work", say=said.append, **options)

    return call


def test_files_when_made_before_are_taken_and_of_other_images_or_code_made_again(prepare: Any) -> None:
    said: list[str] = []
    first = prepare(said)
    assert said == ["NNCF default, torchscript", "NNCF default, dynamo"]
    assert set(first.ours) == {"int8", f"int8 {UNPADDED}"}
    assert all(path.is_dir() for path in first.ours.values())
    assert all(path.is_file() for path in (*first.nncf.values(), *first.exports.values()))
    said.clear()
    assert prepare(said) == first
    assert not said
    kept = prepare(said, code="changed", keep_ours=True)
    assert (kept.code, said) == ("code", [])  # the results say what made them
    assert prepare(said, code="changed").code == "changed"
    assert said == ["ours are made again, as edgevit's code has changed"]
    said.clear()
    assert prepare(said, code="changed", images="others").nncf != first.nncf
    assert len(said) == 2


def test_usual_tiers_when_listed_are_from_the_oldest() -> None:
    assert list(DEFAULT_TIERS) == [tier for tier in TIERS if tier in DEFAULT_TIERS]
