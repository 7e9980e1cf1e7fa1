"""Builds whose engines cannot be opened here: judged as graphs, compiled or rehearsed, and labelled so."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from edgevit.build.bench import Bench
from edgevit.build.build import build_model
from edgevit.build.conclude import BuildResult
from edgevit.build.desk import try_at_desk
from edgevit.build.finish import finish_bundle
from edgevit.build.order import Order, Place
from edgevit.build.pack import pack_bundle
from edgevit.build.portable import list_quantized, read_portable_evidence
from edgevit.build.trial import GraphFile
from edgevit.cli.demo_models import MODELS, DigitFiles
from edgevit.core.cache import StageCache
from edgevit.core.quantization import Quantization
from edgevit.core.recipe import Recipe
from edgevit.core.report.report import Report
from edgevit.core.target import load_target
from edgevit.runtime.bundle import verify_bundle
from edgevit.runtime.manifest import load_manifest
from tests.support.digits import write_few
from tests.support.small_graphs import make_graph

QUANTIZATION = Quantization(images=40, float_share=0.0, rounding="nearest")
QUICK = Recipe(latency_runs=2, latency_seconds=0.05, tune_settings=False, choice_images=40, quantization=QUANTIZATION)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DigitFiles:
    return write_few(tmp_path_factory.mktemp("digits"), 6)


@pytest.fixture(scope="module")
def cache() -> StageCache:
    return StageCache()


def build(name: str, digits: DigitFiles, cache: StageCache, out: Path, family: str = "vit", **options) -> BuildResult:
    return build_model(
        MODELS[family],
        load_target(name),
        out=out,
        recipe=dataclasses.replace(QUICK, **options),
        calibration=digits.calibration,
        validation=digits.validation,
        cache=cache,
    )


@pytest.fixture(scope="module")
def portable(digits: DigitFiles, cache: StageCache, tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    return build("jetson", digits, cache, tmp_path_factory.mktemp("portable") / "bundle")


@pytest.fixture(scope="module")
def ahead(digits: DigitFiles, cache: StageCache, tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    pytest.importorskip("tensorrt_rtx")
    return build("rtx-40", digits, cache, tmp_path_factory.mktemp("ahead") / "bundle")


def test_portable_bundle_carries_the_graph_of_every_precision(portable: BuildResult) -> None:
    bundle = verify_bundle(portable.bundle)
    assert {"model.onnx", "model.int8.onnx", "parity.npz"} <= set(bundle.manifest.files)
    assert list_quantized(bundle.manifest) == ("int8",)
    assert [v.name for v in portable.report.variants] == ["fp32", "fp16", "int8"]
    evidence = read_portable_evidence(bundle)
    difference = evidence.graph_outputs["int8"][0] - evidence.outputs[0]
    assert 0 < np.square(difference).sum() < 0.05 * np.square(evidence.outputs[0]).sum()


def test_portable_variants_are_judged_as_graphs_and_said_to_be(portable: BuildResult) -> None:
    for variant in portable.report.variants:
        assert variant.latency is None
        assert variant.cold_start is None
        assert variant.accuracy.images == 60
        assert variant.status == "NOT MEASURED"
        assert "accuracy is that of the graph in ONNX Runtime here" in variant.reason
    fp32, fp16, int8 = portable.report.variants
    assert fp32.parity.passed
    assert fp16.parity.passed
    assert int8.choice_accuracy.images == 40, "what a choice among precisions looks at"
    sentence = portable.report.verdict.sentence
    assert sentence.startswith("portable: the graphs were judged in ONNX Runtime on this machine, not on NVIDIA Jetson")
    assert portable.report.verdict.chosen == "int8", "the first of the target's preference"
    assert portable.manifest.precision == "int8"
    assert "latency_p50_ms" not in portable.manifest.figures


def test_rehearsal_covers_every_precision(portable: BuildResult) -> None:
    pytest.importorskip("tensorrt_rtx")
    fusion = portable.report.fusion
    assert [*fusion] == ["fp32", "fp16", "int8"]
    assert {record.device for record in fusion.values()} == {"SM86"}
    assert fusion["int8"].products["int8"] > 0


def finish(bundle: Path, out: Path) -> BuildResult:
    """As a device would whose engine library is ONNX Runtime."""
    manifest = load_manifest(bundle)
    target = dataclasses.replace(load_target("cpu"), precisions=manifest.target.precisions)
    files = {name: (bundle / name).read_bytes() for name in manifest.files}
    pack_bundle(out, files=files, manifest=dataclasses.replace(manifest, target=target))
    return finish_bundle(out)


def test_finish_compiles_and_compares_every_graph(portable: BuildResult, tmp_path: Path) -> None:
    finished = finish(portable.bundle, tmp_path / "finished")
    variants = {v.name: v for v in finished.report.variants}
    assert [*variants] == ["fp32", "fp16", "int8"]
    for variant in variants.values():
        assert variant.parity.passed, "the float model's logits, and for int8 those of its own graph"
        assert variant.latency is not None
        assert variant.accuracy is None, "nothing on this device"
    assert variants["int8"].parity.tolerance > variants["fp16"].parity.tolerance
    assert finished.report.quantization["int8"] == portable.report.quantization["int8"]
    assert any("in ONNX Runtime had top-1" in note and "int8" in note for note in finished.report.notes)
    assert [*finished.report.fusion] == [*portable.report.fusion], "the rehearsal stays in the report"


def test_finish_leaves_out_what_missed_the_budget_at_the_build(portable: BuildResult, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    manifest = load_manifest(portable.bundle)
    report = json.loads((portable.bundle / "report.json").read_text())
    report["variants"][2] |= {"status": "ACCURACY DROP", "reason": "top-1 drops by 9.00 points of at most 0.5"}
    files: dict[str, Path | bytes] = {name: (portable.bundle / name).read_bytes() for name in manifest.files}
    files["report.json"] = json.dumps(report).encode()
    pack_bundle(bundle, files=files, manifest=manifest)
    finished = finish(bundle, tmp_path / "finished")
    assert finished.report.verdict.chosen in ("fp32", "fp16")
    int8 = finished.report.variants[2]
    assert (int8.status, int8.latency) == ("ACCURACY DROP", None)
    assert int8.reason == "not compiled here: at the build, top-1 drops by 9.00 points of at most 0.5"


def test_engine_that_computes_another_graph_fails_its_parity(portable: BuildResult, tmp_path: Path) -> None:
    """A graph with one scale that is wrong, in the place of the one that the build judged."""
    import onnx
    from onnx import numpy_helper

    manifest = load_manifest(portable.bundle)
    files: dict[str, Path | bytes] = {name: (portable.bundle / name).read_bytes() for name in manifest.files}
    model = onnx.load(portable.bundle / "model.int8.onnx")
    scale = next(i for i in model.graph.initializer if i.name.endswith("mlp.fc1.weight.scale"))
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(8), scale.name))
    files["model.int8.onnx"] = model.SerializeToString()
    pack_bundle(tmp_path / "bundle", files=files, manifest=manifest)
    finished = finish(tmp_path / "bundle", tmp_path / "finished")
    assert finished.report.variants[2].status == "PARITY FAILED"


def test_rtx_build_without_a_gpu_ends_in_an_engine_that_was_not_measured(ahead: BuildResult) -> None:
    manifest = verify_bundle(ahead.bundle).manifest
    assert manifest.engine is not None
    assert manifest.engine.backend == "tensorrt_rtx"
    assert manifest.engine.gpu.compute_capability == "8.9"
    assert (ahead.bundle / "model.plan").stat().st_size > 100_000
    assert not (ahead.bundle / "model.onnx").exists()
    report = Report.load(ahead.bundle / "report.json")
    assert [v.name for v in report.variants] == ["fp32", "fp16", "int8", "fp8"]
    assert all(v.latency is None and v.accuracy.images == 60 for v in report.variants)
    assert report.verdict.chosen == "fp16"
    assert "not on NVIDIA GeForce RTX 40 series" in report.verdict.sentence
    assert "the engine was not run" in report.verdict.sentence
    assert {name: record.device for name, record in report.fusion.items()} == dict.fromkeys(
        ("fp32", "fp16", "int8", "fp8"), "SM89"
    )
    assert report.fusion["fp8"].products["fp8"] > 0
    assert report.quantization["fp8"].images == 40
    assert any(site.precision == "fp8" for site in report.quantization["fp8"].sites)


def test_rtx_build_of_one_precision_packs_that_engine(digits: DigitFiles, cache: StageCache, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    result = build("rtx-40", digits, cache, tmp_path / "bundle", precision="fp8")
    assert result.manifest.precision == result.manifest.engine.precision == "fp8"


def test_graph_that_breaks_a_rule_is_not_supported_and_names_the_site(tmp_path: Path) -> None:
    from edgevit.build.evidence import Evidence
    from tests.support.broken_rules import use_unknown_op
    from tests.support.small_graphs import make_pixels, run_graph
    from tests.support.tiny_bundle import PREPROCESS

    graph = make_graph("vit")
    pixels = np.concatenate(make_pixels("vit", 2))
    evidence = Evidence(PREPROCESS, pixels, (run_graph(graph, make_pixels("vit", 2))[0],))
    graph.save(tmp_path / "good.onnx")
    site, _ = use_unknown_op(graph)
    graph.save(tmp_path / "bad.onnx")
    files = {"fp32": GraphFile(tmp_path / "good.onnx", {"g": 1}), "fp16": GraphFile(tmp_path / "bad.onnx", {"g": 2})}
    target = load_target("jetson")
    cache = StageCache(tmp_path / "cache")
    found = try_at_desk(files, Order(target, QUICK, place=Place("elsewhere")), Bench(evidence, cache))
    assert [v.status for v in found.variants] == ["NOT MEASURED", "NOT SUPPORTED"]
    assert site in found.variants[1].reason
    assert found.ruling.chosen == "fp32"
    assert "fp16" not in found.rehearsal.fusion
