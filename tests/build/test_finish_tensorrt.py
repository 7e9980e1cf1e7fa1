"""A portable bundle for a Jetson, finished on the double of one, and used there by every command."""

from __future__ import annotations

import dataclasses
import io
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from edgevit.build.build import build_model
from edgevit.build.pack import pack_bundle
from edgevit.build.rehearsal import Rehearsal
from edgevit.cli import main
from edgevit.cli.demo_models import MODELS
from edgevit.core.cache import StageCache
from edgevit.core.engine import GpuRecord
from edgevit.core.quantization import Quantization
from edgevit.core.recipe import Recipe
from edgevit.core.report.report import Report, Verdict
from edgevit.core.target import Budget, load_target
from edgevit.graph.graph import Graph
from edgevit.measure.machine.local import describe_machine
from edgevit.runtime import open_bundle
from edgevit.runtime.bundle import PARITY_FILE, PORTABLE_MODEL_FILE, RECIPE_FILE, REPORT_FILE
from edgevit.runtime.manifest import load_manifest
from tests.support.digits import write_few
from tests.support.gpu_double import Machine, read, write
from tests.support.gpu_double.tensorrt import CONTEXT_BYTES
from tests.support.tiny_bundle import LABELS, make_manifest
from tests.support.tiny_onnx import SIZE, compute_logits, make_images, write_classifier

RECIPE = Recipe(batch=(1, 2, 4), latency_runs=2, latency_seconds=0.02, tune_settings=False)
IMAGES = make_images(8, seed=3)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """What a desk leaves for the board."""
    report = Report(
        source={},
        target="jetson-orin-nano",
        budget=Budget(),
        machine=describe_machine(),
        variants=(),
        verdict=Verdict(None, True, "portable"),
        preprocess="",
    )
    parity = io.BytesIO()
    np.savez_compressed(parity, pixels=IMAGES, logits=compute_logits(IMAGES).astype(np.float32))
    files: dict[str, Path | bytes] = {
        PORTABLE_MODEL_FILE: write_classifier(tmp_path / "source.onnx", batch="batch"),
        RECIPE_FILE: RECIPE.dumps().encode(),
        REPORT_FILE: report.dumps().encode(),
        PARITY_FILE: parity.getvalue(),
    }
    manifest = make_manifest(target=load_target("jetson"), batch=RECIPE.batch)
    return pack_bundle(tmp_path / "bundle", files=files, manifest=manifest).path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder per class; the labels are the float model's answers, but for the last image's."""
    answers = [int(logits.argmax()) for logits in compute_logits(IMAGES)]
    answers[-1] = (answers[-1] + 1) % len(LABELS)
    assert IMAGES.shape[1:3] == (SIZE, SIZE), "or they would be resized"
    for number, (pixels, answer) in enumerate(zip(IMAGES, answers, strict=True)):
        folder = tmp_path / "photos" / LABELS[answer]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"


@pytest.fixture
def jetson(orin: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path / "cache"))
    return orin


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_bundle_is_finished_measured_and_used_by_every_command(jetson: Machine, bundle: Path, photos: Path) -> None:
    finished = run("finish", bundle, "--json")
    assert finished.exit_code in (0, 1), finished.output
    manifest, report = load_manifest(bundle), Report.load(bundle / "report.json")
    assert manifest.engine is not None
    assert manifest.engine.files == ("model.plan",)
    assert manifest.engine.gpu == GpuRecord("8.7", "Orin", 8)
    assert manifest.engine.versions == {"tensorrt": "10.3.0"}
    assert [v.name for v in report.variants] == ["fp32", "fp16"]
    assert report.machine.gpus == (jetson.gpu,)
    for variant in report.variants:
        assert variant.parity is not None
        assert variant.parity.passed, variant
        assert variant.parity.images == 8 + 8 + 8, "at the least, the usual and the largest batch"
        assert variant.latency is not None
        assert variant.latency.settings == {
            "hint": "latency",
            "streams": 1,
            "cuda_graph": True,
            "wait": "spin",
            "transfers": "included",
        }
    chosen = next(v for v in report.variants if v.name == report.verdict.chosen)
    assert chosen.cold_start is not None

    timings = list((bundle.parent / "cache" / "tensorrt" / "timing").iterdir())
    assert [path.name for path in timings] == ["10.3.0-Orin-8.7-8.cache"]

    measured = run("bench", bundle, "--runs", 2, "--seconds", 0, "--throughput")
    assert measured.exit_code == 0, measured.output
    assert "cuda_graph True, wait spin, transfers included" in " ".join(measured.stderr.split())
    assert "Orin, compute capability 8.7" in measured.stderr
    assert "images a second with 2 callers" in measured.stdout
    judged = run("eval", bundle, "--data", photos, "--json")
    assert judged.exit_code == 0, judged.output
    assert json.loads(judged.stdout)["top1"] == len(IMAGES) - 1
    image = next(photos.rglob("0.png"))
    answered = run("run", bundle, image)
    assert answered.exit_code == 0
    assert image.parent.name in answered.stdout
    assert "model.plan" in run("inspect", bundle).stdout
    assert run("finish", bundle).exit_code == 2


def test_wrong_answers_at_the_largest_batch_alone_are_found(
    jetson: Machine, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT has been wrong at batches above 1 without an error."""
    library = sys.modules["tensorrt"]
    compute = library.IExecutionContext._compute

    def spoil(self: object, shape: tuple[int, ...], addresses: dict[str, int]) -> None:
        compute(self, shape, addresses)
        if shape[0] == 4:
            logits = np.frombuffer(read(addresses["logits"], 4 * 10 * 4), np.float32).copy()
            logits[10:] = logits[:30][::-1]
            write(addresses["logits"], logits.tobytes())

    monkeypatch.setattr(library.IExecutionContext, "_compute", spoil)
    result = run("finish", bundle, "--json")
    assert result.exit_code in (1, 2), result.output
    assert {v["status"] for v in json.loads(result.stdout)["report"]["variants"]} == {"PARITY FAILED"}
    assert load_manifest(bundle).portable, "nothing took its place"


def test_engine_of_the_cache_is_not_taken_for_another_gpu_or_version(
    jetson: Machine, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgevit.build.here.measure_cold_start", lambda folder, **_: None)
    first = run("finish", bundle, "--out", tmp_path / "first")
    assert first.exit_code in (0, 1), first.output
    monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "10.4.0")
    jetson.gpu = dataclasses.replace(jetson.gpu, multiprocessors=16)
    second = run("finish", bundle, "--out", tmp_path / "second")
    assert second.exit_code in (0, 1), second.output
    engine = load_manifest(tmp_path / "second").engine
    assert engine is not None
    assert (engine.versions, engine.gpu) == ({"tensorrt": "10.4.0"}, GpuRecord("8.7", "Orin", 16))
    with open_bundle(tmp_path / "second") as predictor:
        assert predictor.differences == ()


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A portable bundle of the demonstration's ViT with the graphs of fp32, fp16 and int8."""
    folder = tmp_path_factory.mktemp("portable")
    digits = write_few(folder / "digits", 3)
    quantization = Quantization(images=20, float_share=0.0, rounding="nearest")
    recipe = dataclasses.replace(RECIPE, quantization=quantization, choice_images=20)
    cache = StageCache(folder / "cache")
    options: dict[str, Any] = {
        "calibration": digits.calibration,
        "validation": digits.validation,
        "recipe": recipe,
        "cache": cache,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgevit.build.desk.rehearse_fusion", lambda *arguments: Rehearsal())  # takes seconds a graph
        return build_model(MODELS["vit"], load_target("jetson"), out=folder / "bundle", **options).bundle


@pytest.fixture
def no_cold_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh processes take seconds."""
    monkeypatch.setattr("edgevit.build.here.measure_cold_start", lambda folder, **_: None)


def finish_quantized(quantized: Path, out: Path) -> Report:
    result = run("finish", quantized, "--out", out, "--json")
    assert result.exit_code in (0, 1), result.output
    return Report.load(out / "report.json")


def test_int8_is_compiled_and_checked_against_its_own_graph_on_the_board(
    jetson: Machine, quantized: Path, tmp_path: Path
) -> None:
    report = finish_quantized(quantized, tmp_path / "finished")
    variants = {v.name: v for v in report.variants}
    assert [*variants] == ["fp32", "fp16", "int8"]
    for variant in variants.values():
        assert variant.parity is not None
        assert variant.parity.passed, variant
        assert variant.latency is not None
    assert any("in ONNX Runtime had top-1" in note and "int8" in note for note in report.notes)
    sites = sum(site.precision == "int8" for site in report.quantization["int8"].sites)
    assert sites > 8
    before = Report.load(quantized / "report.json")
    assert {*before.graphs} == {"float", "int8"}
    name = "model.int8.onnx" if report.verdict.chosen == "int8" else "model.onnx"
    assert report.op_counts == Graph.load(quantized / name).op_counts(), "of the graph that the board chose"
    assert report.passes == before.graphs["int8" if report.verdict.chosen == "int8" else "float"].passes
    record = report.fusion["int8"]
    assert (record.device, record.compiler) == ("SM87", "tensorrt 10.3.0"), "of the board's engine, not the rehearsal's"


@pytest.mark.usefixtures("no_cold_start")
def test_int8_engine_that_computes_something_else_fails_and_a_float_one_is_chosen(
    jetson: Machine, quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer in the place of its neighbour's, in the engine of the int8 graph alone."""
    library = sys.modules["tensorrt"]
    compute = library.IExecutionContext._compute

    def spoil(self: Any, shape: tuple[int, ...], addresses: dict[str, int]) -> None:
        compute(self, shape, addresses)
        if is_quantized(self.engine):
            size = shape[0] * 10 * 4
            logits = np.frombuffer(read(addresses["logits"], size), np.float32)
            write(addresses["logits"], np.roll(logits, 1).tobytes())

    monkeypatch.setattr(library.IExecutionContext, "_compute", spoil)
    report = finish_quantized(quantized, tmp_path / "finished")
    assert [v.status == "PARITY FAILED" for v in report.variants] == [False, False, True]
    assert report.verdict.chosen in ("fp32", "fp16")


def is_quantized(engine: Any) -> bool:
    return b"QuantizeLinear" in engine._model


def has_pairs(network: Any) -> bool:
    return b"QuantizeLinear" in network.path.read_bytes()


def compile_behind(look: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Show every network to ``look`` before the double's compiler gets it."""
    library = sys.modules["tensorrt"]
    build = library.Builder.build_serialized_network

    def compile_network(self: Any, network: Any, config: Any) -> Any:
        look(network)
        return build(self, network, config)

    monkeypatch.setattr(library.Builder, "build_serialized_network", compile_network)


@pytest.mark.usefixtures("no_cold_start")
def test_precision_that_the_board_cannot_compile_is_not_supported_and_the_others_are_kept(
    jetson: Machine, quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(network: Any) -> None:
        jetson.fail_at = len(jetson.calls) + 1 if has_pairs(network) else None

    compile_behind(fail, monkeypatch)
    report = finish_quantized(quantized, tmp_path / "finished")
    assert [v.status == "NOT SUPPORTED" for v in report.variants] == [False, False, True]
    assert "Could not find any implementation for node fc1" in report.variants[2].reason
    assert report.verdict.chosen in ("fp32", "fp16")
    assert [v.latency is None for v in report.variants] == [False, False, True]


@pytest.mark.usefixtures("no_cold_start")
def test_compiler_that_raises_is_told_like_one_that_gives_nothing(
    jetson: Machine, quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(network: Any) -> None:
        if has_pairs(network):
            raise MemoryError("std::bad_alloc")

    compile_behind(fail, monkeypatch)
    report = finish_quantized(quantized, tmp_path / "finished")
    assert report.variants[2].status == "NOT SUPPORTED"
    assert "MemoryError: std::bad_alloc" in report.variants[2].reason


@pytest.mark.usefixtures("no_cold_start")
def test_engine_that_does_not_fit_the_memory_is_not_supported_and_the_others_are_kept(
    jetson: Machine, quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = sys.modules["tensorrt"]
    make = library.ICudaEngine.create_execution_context

    def refuse(self: Any, *arguments: Any) -> Any:
        jetson.fail_at = len(jetson.calls) + 1 if is_quantized(self) else None
        return make(self, *arguments)

    monkeypatch.setattr(library.ICudaEngine, "create_execution_context", refuse)
    report = finish_quantized(quantized, tmp_path / "finished")
    assert [v.status == "NOT SUPPORTED" for v in report.variants] == [False, False, True]
    assert "OutOfMemory" in report.variants[2].reason
    assert report.verdict.chosen in ("fp32", "fp16")


@pytest.mark.usefixtures("no_cold_start")
def test_engines_that_do_not_fit_side_by_side_are_left_untimed_the_least_compressed_first(
    jetson: Machine, quantized: Path, tmp_path: Path
) -> None:
    """Each opens alone; the memory has room for the contexts of two, and their buffers."""
    jetson.gpu = dataclasses.replace(jetson.gpu, memory_bytes=2 * RECIPE.batch[2] * CONTEXT_BYTES + (1 << 20))
    report = finish_quantized(quantized, tmp_path / "finished")
    fp32, fp16, int8 = report.variants
    assert (fp32.status, fp32.latency) == ("NOT MEASURED", None)
    assert fp32.reason.startswith("not timed, as it does not open beside the others: ")
    assert fp16.latency is not None
    assert int8.latency is not None
    assert fp16.ratio is not None
    assert fp16.ratio.value == 1, "ratios are over the first that was timed"


def test_board_where_no_engine_opens_ends_with_the_reason_and_a_hint(
    jetson: Machine, quantized: Path, tmp_path: Path
) -> None:
    jetson.gpu = dataclasses.replace(jetson.gpu, memory_bytes=1 << 16)
    result = run("finish", quantized, "--out", tmp_path / "finished")
    assert result.exit_code == 2
    assert "error: " in result.stderr
    assert "OutOfMemory" in result.stderr
    assert "hint: " in result.stderr
    assert not (tmp_path / "finished").exists()


def test_finishing_elsewhere_lists_what_is_missing(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    result = run("finish", bundle)
    assert result.exit_code == 2
    text = " ".join(result.stderr.split())
    assert "a machine with aarch64 (this one has x86_64)" in text
    assert "NVIDIA" in text
    assert "run edgevit finish on NVIDIA Jetson Orin Nano" in text
