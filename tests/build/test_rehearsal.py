"""Rehearsals of TensorRT builds at a desk."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgevit.build.rehearsal import Rehearsal, describe_rehearsal, find_stand_in, list_fusion_warnings, rehearse_fusion
from edgevit.build.trial import GraphFile
from edgevit.core.cache import StageCache
from edgevit.core.errors import MissingPackageError
from edgevit.core.report.fusion_record import FusionRecord
from edgevit.core.target import ExportForm, load_target
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.models.export import export_model
from tests.support.small_graphs import CONFIGS, make_graph
from tests.support.small_models import make_model

JETSON = load_target("jetson")


@pytest.fixture
def graphs(tmp_path: Path) -> dict[str, GraphFile]:
    make_graph("vit", ExportForm(qkv="packed")).save(tmp_path / "graph.onnx")
    return {"fp16": GraphFile(tmp_path / "graph.onnx", {"graph": 1})}


def test_jetson_is_rehearsed_for_the_same_family(graphs: dict[str, GraphFile], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    seen: list[tuple[str, int, int]] = []
    cache = StageCache(tmp_path / "cache")
    found = rehearse_fusion(graphs, JETSON, (1, 1, 1), cache, lambda *told: seen.append(told))
    record = found.fusion["fp16"]
    assert (record.device, found.notes) == ("SM86", ())
    assert seen[0] == ("rehearse", 0, 1)
    assert seen[-1] == ("rehearse", 1, 1)
    (text,) = describe_rehearsal(found, JETSON)
    assert text.startswith(f"rehearsal of fp16 by {record.compiler} for SM86, not on {JETSON.title}: {record.layers} ")
    graphs["fp16"].path.unlink()
    assert rehearse_fusion(graphs, JETSON, (1, 1, 1), cache) == found, "taken from the cache"


def test_without_the_compiler_it_says_how_to_get_it(
    graphs: dict[str, GraphFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise MissingPackageError("tensorrt_rtx cannot be imported: no module", 'pip install "edgevit[rtx]"')

    monkeypatch.setattr("edgevit.runtime.tensorrt.open_plan.import_tensorrt", refuse)
    found = rehearse_fusion(graphs, JETSON, (1, 1, 1), StageCache(tmp_path / "cache"))
    assert found.fusion == {}
    assert "edgevit[rtx]" in list_fusion_warnings(found)[0]


def test_a_graph_that_has_no_float16_form_is_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    import onnx_ir as ir

    from tests.support.small_graphs import find_node

    graph = make_graph("vit", ExportForm(qkv="packed"))
    weight = find_node(graph, "blocks.0.mlp.fc1").inputs[1]
    weight.const_value = ir.tensor(weight.const_value.numpy() * 1e9, name=weight.name)
    graph.save(tmp_path / "graph.onnx")
    files = {"fp16": GraphFile(tmp_path / "graph.onnx", {})}
    found = rehearse_fusion(files, JETSON, (1, 1, 1), StageCache(tmp_path / "cache"))
    assert "blocks.0.mlp.fc1" in list_fusion_warnings(found)[0]


@pytest.mark.parametrize(
    ("capability", "stand_in"),
    [("8.6", "8.6"), ("8.9", "8.9"), ("12.0", "12.0"), ("8.7", "8.6"), ("11.0", "12.0"), ("9.9", "8.6"), (None, "8.6")],
)
def test_stand_in_is_the_device_itself_or_one_of_its_family(capability: str | None, stand_in: str) -> None:
    pytest.importorskip("tensorrt_rtx")
    found = find_stand_in(dataclasses.replace(JETSON, compute_capability=capability))
    assert (found.compute_capability, found.backend) == (stand_in, "tensorrt_rtx")


def test_attention_that_is_not_fused_is_a_warning_but_for_fp32() -> None:
    record = FusionRecord(
        "tensorrt_rtx 1", "SM86", 9, {"blocks.0.attn": "fp16"}, tuple(f"blocks.{i}.attn" for i in "1234")
    )
    (text,) = list_fusion_warnings(Rehearsal({"fp32": record, "fp16": record}))
    assert text == "fp16: attention is not fused in 4 of 5 blocks: blocks.1.attn, blocks.2.attn, blocks.3.attn, …"


def test_a_compiler_that_lists_nothing_is_not_said_to_fuse_nothing() -> None:
    record = FusionRecord("tensorrt_rtx 9", "SM86", 0, {}, ("blocks.0.attn",))
    (text,) = list_fusion_warnings(Rehearsal({"fp16": record}))
    assert text == "fp16: tensorrt_rtx 9 listed no layers, so what it fused is not known"


def test_quantisers_left_alone_and_products_in_a_wider_type_are_warnings() -> None:
    record = FusionRecord("tensorrt_rtx 1", "SM86", 9, widened=("head",), unfused_quantizers=("a/quantize",) * 4)
    wider, alone = list_fusion_warnings(Rehearsal({"int8": record}))
    assert wider == "int8: 1 products have Q/DQ pairs and do not multiply in int8: head"
    assert alone == "int8: 4 Q/DQ nodes have a kernel of their own: a/quantize, a/quantize, a/quantize, …"


def test_graph_for_builder_flags_is_rehearsed_as_a_strongly_typed_one(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    from edgevit.core.quantization import Quantization
    from tests.support.quantized import quantize_all
    from tests.support.small_graphs import make_pixels

    form = ExportForm(qkv="packed", fold_residual_rotation=True)
    quantization = Quantization(float_share=0.0, rounding="nearest")
    old = load_target("jetson-jetpack-6.0")
    graph = optimize_graph(export_model(make_model(CONFIGS["vit"]), form, opset=old.opset)[0])[0]
    quantize_all(graph, make_pixels("vit", 1), quantization, "tensorrt").save(tmp_path / "graph.onnx")
    files = {"int8": GraphFile(tmp_path / "graph.onnx", {})}
    found = rehearse_fusion(files, old, (1, 1, 1), StageCache(tmp_path / "cache"))
    assert found.notes == ()
    assert found.fusion["int8"].products["int8"] > 0
