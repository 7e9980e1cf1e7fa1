"""TensorRT-RTX compiles without a GPU: what it makes of small models, in every precision and for three families."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
from pathlib import Path

import pytest

from edgevit.core.engine import Engine, GpuRecord, TensorSpec
from edgevit.core.errors import CompileError, DeviceError, MissingPackageError
from edgevit.core.packages import install_line
from edgevit.core.quantization import Quantization
from edgevit.core.report.fusion_record import FusionRecord
from edgevit.core.target import ExportForm, Target, load_target
from edgevit.engines.fusion_file import load_fusion
from edgevit.engines.tensorrt.backend import PLAN_FILE, TENSORRT_RTX, TensorRT
from edgevit.graph.graph import Graph
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.models.export import export_model
from edgevit.models.rotary import make_periods
from edgevit.runtime.session import get_runtime
from tests.support.broken_rules import insert_cast, move_zero, use_fp8, use_unknown_op
from tests.support.quantized import quantize_all
from tests.support.small_graphs import CONFIGS, make_graph, make_pixels
from tests.support.small_models import make_model

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install edgevit[rtx]")

PACKED = ExportForm(qkv="packed")
DEVICES = {"8.6": "rtx-30", "8.9": "rtx-40", "12.0": "rtx-50"}
RTX = load_target("rtx-30")


def make(family: str, precision: str) -> Graph:
    if precision != "int8":
        return make_graph(family, PACKED)
    rotated = dataclasses.replace(PACKED, fold_residual_rotation=True)
    quantization = Quantization(float_share=0.0, rounding="nearest")
    return quantize_all(make_graph(family, rotated), make_pixels(family, 2), quantization, "tensorrt_rtx")


def compile(graph: Graph, precision: str, folder: Path, target: Target = RTX, **options) -> tuple[Engine, FusionRecord]:
    folder.mkdir(exist_ok=True)
    graph.save(folder / "graph.onnx")
    engine = TENSORRT_RTX.compile(folder / "graph.onnx", target, precision, folder, {}, **options)
    record = load_fusion(folder)
    assert record is not None
    return engine, record


# Every pair of a family and a precision, and every device with both families and with INT8; the others are slow.
CHOSEN = {("vit", "int8", capability) for capability in DEVICES} | {
    ("swin", "int8", "12.0"),
    ("vit", "fp16", "8.6"),
    ("swin", "fp16", "8.9"),
    ("vit", "fp32", "12.0"),
    ("swin", "fp32", "8.6"),
}


@pytest.mark.parametrize(
    ("family", "precision", "capability"),
    [
        pytest.param(*case, marks=[] if case in CHOSEN else pytest.mark.slow)
        for case in itertools.product(("vit", "swin"), ("fp32", "fp16", "int8"), DEVICES)
    ],
)
def test_engine_of_every_precision_and_device(family: str, precision: str, capability: str, tmp_path: Path) -> None:
    target = load_target(DEVICES[capability])
    assert target.compute_capability == capability
    engine, record = compile(make(family, precision), precision, tmp_path, target)
    assert (engine.backend, engine.precision, engine.files) == ("tensorrt_rtx", precision, (PLAN_FILE,))
    assert engine.path.stat().st_size > 10_000
    assert engine.gpu == GpuRecord(capability)
    assert (record.device, record.compiler) == (
        f"SM{capability.replace('.', '')}",
        f"tensorrt_rtx {get_runtime('tensorrt_rtx').read_versions()['tensorrt_rtx']}",
    )
    blocks = CONFIGS[family].depth if family == "vit" else sum(CONFIGS[family].depths)
    assert len(record.attention) + len(record.unfused_attention) == blocks
    linears = sum(site.weight_shape is not None for site in make_graph(family, PACKED).sites())
    assert sum(record.products.values()) == linears
    if precision == "fp32":
        assert set(record.products) == {"fp32"}
    if precision == "int8":
        assert record.products["int8"] > 0
        assert record.unfused_quantizers == ()


@pytest.mark.parametrize(
    ("family", "precision"),
    [
        ("vit", "fp16"),
        ("vit", "int8"),
        ("rotary", "fp16"),
        ("rotary", "int8"),
        ("late_tokens", "fp16"),
        ("late_tokens", "int8"),
    ],
)
def test_attention_is_fused_at_the_width_of_real_models(family: str, precision: str, tmp_path: Path) -> None:
    """Small models have heads of 8 and too few tokens for the kernels; these are DeiT-T's heads."""
    size = {"image_size": (224, 224), "patch_size": (16, 16), "width": 192, "heads": 3}
    periods = {"rotary_periods": make_periods(100.0, 64)} if family == "rotary" else {}
    config = dataclasses.replace(CONFIGS[family], **size, **periods)
    form = dataclasses.replace(PACKED, fold_residual_rotation=precision == "int8")
    graph = optimize_graph(export_model(make_model(config), form)[0])[0]
    if precision == "int8":
        from tests.support.small_models import make_images

        pixels = [image[None] for image in make_images(config, 1).numpy()]
        graph = quantize_all(graph, pixels, Quantization(float_share=0.0, rounding="nearest"), "tensorrt_rtx")
    _, record = compile(graph, precision, tmp_path)
    assert record.unfused_attention == ()
    assert record.attention == {f"blocks.{i}.attn": "fp16" for i in range(config.depth)}


def test_two_builds_are_the_same_bytes(tmp_path: Path) -> None:
    plans = [compile(make("swin", "int8"), "int8", tmp_path / str(i))[0].path.read_bytes() for i in (1, 2)]
    assert plans[0] == plans[1]


def test_a_range_of_batches_becomes_a_profile(tmp_path: Path) -> None:
    graph = optimize_graph(export_model(make_model(CONFIGS["vit"]), PACKED, batch=(1, 2, 4))[0])[0]
    engine, record = compile(graph, "fp16", tmp_path, batch=(1, 2, 4))
    assert engine.batch == (1, 2, 4)
    assert engine.inputs[0].shape[0] == engine.outputs[0].shape[0] == "batch"
    assert record.layers > 0


@pytest.mark.parametrize("plant", [move_zero, use_fp8, insert_cast, use_unknown_op])
def test_planted_faults_are_refused_by_name_before_the_compiler_sees_them(plant, tmp_path: Path, monkeypatch) -> None:
    from edgevit.engines.tensorrt.typed import type_graph

    graph = type_graph(make("vit", "int8"), "fp16")
    site, _ = plant(graph)
    graph.save(tmp_path / "graph.onnx")
    monkeypatch.setattr(TensorRT, "_build", lambda *args: pytest.fail("the compiler saw it"))
    with pytest.raises(CompileError) as caught:
        TENSORRT_RTX.check(tmp_path / "graph.onnx", RTX)
    assert site in caught.value.message
    with pytest.raises(CompileError):
        TENSORRT_RTX.compile(tmp_path / "graph.onnx", RTX, "int8", tmp_path, {})


def test_a_graph_that_keeps_the_rules_passes_the_check(tmp_path: Path) -> None:
    for precision in ("fp32", "int8"):
        make("vit", precision).save(tmp_path / "graph.onnx")
        TENSORRT_RTX.check(tmp_path / "graph.onnx", RTX)


def test_unknown_compute_capability_lists_those_that_it_compiles_for(tmp_path: Path) -> None:
    make("vit", "fp32").save(tmp_path / "graph.onnx")
    target = dataclasses.replace(RTX, compute_capability="8.7")
    with pytest.raises(DeviceError, match=r"SM87.*SM86"):
        TENSORRT_RTX.check(tmp_path / "graph.onnx", target)


def test_what_the_compiler_refuses_is_said_in_its_last_lines(tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"no model")
    image = TensorSpec("image", (1, 32, 32, 3), "uint8")
    with pytest.raises(CompileError, match=r"cannot compile graph\.onnx"):
        TENSORRT_RTX._build(tmp_path / "graph.onnx", RTX, image, (1, 1, 1))


def test_missing_library_says_how_to_install_it(monkeypatch) -> None:
    def refuse(name: str, *args: object) -> object:
        if name == "tensorrt":
            raise ImportError("no module named tensorrt")
        return importlib.__import__(name)

    runtime = get_runtime("tensorrt")
    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingPackageError) as caught:
        runtime.read_versions()
    assert install_line("tensorrt") in caught.value.hint


def test_other_engines_have_no_record_of_fusion(tmp_path: Path) -> None:
    assert load_fusion(tmp_path) is None
