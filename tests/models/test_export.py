"""The exported and optimised graph against the module, by ONNX Runtime; and which ops are in it."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgevit.core.errors import ExportError, PassError
from edgevit.core.target import ExportForm
from edgevit.graph.graph import Graph
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.models.export import export_model, float_module
from edgevit.models.folds import apply_folds
from edgevit.models.model import Model
from edgevit.models.swin import SwinConfig
from edgevit.models.vit import ViTConfig
from tests.support.export_forms import NOTHING, SWITCHES
from tests.support.reference import count_flops
from tests.support.small_models import SWIN, SWINS, VIT, VITS, copy_pixels, make_images, make_model

PARTS: dict[str, Any] = {
    "vit": dataclasses.replace(VIT, depth=2),
    # grids of 8 and 4 with windows of 4: shifted windows, a merging, and a stage that is one window
    "swin": dataclasses.replace(SWIN, image_size=(32, 32), depths=(2, 2), heads=(1, 2)),
}
# What the form decides of each: to switch off a fold that finds nothing gives the graph of the other tests once more.
DECIDED = {
    "vit": [
        "fold_layer_norm_affine",
        "fold_attention_scale",
        "fold_input_normalization",
        "fold_position_embedding",
        "fold_last_block",
        "qkv",
        "patch_embedding",
    ],
    "swin": [
        "fold_layer_norm_affine",
        "fold_attention_scale",
        "fold_input_normalization",
        "fold_attention_bias",
        "fold_window_gather",
        "qkv",
        "patch_embedding",
    ],
}


@functools.cache
def export(config: ViTConfig | SwinConfig, form: ExportForm, batch: tuple[int, int, int]) -> Graph:
    """Once a process, of the model that every test here makes of a configuration."""
    return optimize_graph(export_model(make_model(config), form, batch=batch)[0])[0]


def build(model: Model, form: ExportForm, path: Path, batch: tuple[int, int, int] = (1, 1, 1)) -> Graph:
    graph = export(model.config, form, batch).copy()
    graph.save(path)
    onnx.checker.check_model(str(path), full_check=True)
    return graph


def check_output(model: Model, path: Path, batch: int) -> None:
    images = make_images(model.config, batch)
    with torch.inference_mode():
        expected = float_module(model)(images).numpy()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [(i.name, i.type) for i in session.get_inputs()] == [("image", "tensor(uint8)")]
    actual = session.run(["logits"], {"image": images.numpy()})[0]
    assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_graph_names_no_file_of_the_machine_that_exported_it(tmp_path: Path) -> None:
    build(make_model(VIT), ExportForm(), tmp_path / "model.onnx")
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b".py" not in content
    assert str(Path(torch.__file__).parent).encode() not in content


@pytest.mark.parametrize("name", ["distilled", "mean", "no_biases"])
def test_vit_graph_computes_what_the_module_computes(name: str, tmp_path: Path) -> None:
    model = make_model(VITS[name])
    build(model, ExportForm(), tmp_path / "model.onnx")
    check_output(model, tmp_path / "model.onnx", 1)


@pytest.mark.parametrize("name", ["overhang", "padded_image", "odd_window", "window_is_grid"])
def test_swin_graph_computes_what_the_module_computes(name: str, tmp_path: Path) -> None:
    model = make_model(SWINS[name])
    build(model, ExportForm(), tmp_path / "model.onnx")
    check_output(model, tmp_path / "model.onnx", 1)


@pytest.mark.parametrize("family", PARTS)
def test_folds_that_find_something_are_those_that_are_switched_off_one_by_one(family: str) -> None:
    records = apply_folds(copy_pixels(make_model(PARTS[family])), ExportForm())
    found = {f"fold_{record.name}" for record in records if record.applied}
    assert found & set(SWITCHES) == set(DECIDED[family]) & set(SWITCHES)


@pytest.mark.parametrize(("family", "switch"), [(family, switch) for family in PARTS for switch in DECIDED[family]])
def test_graph_without_one_fold_computes_the_same(switch: str, family: str, tmp_path: Path) -> None:
    other: Any = {"qkv": "packed", "patch_embedding": "conv"}.get(switch, False)
    model = make_model(PARTS[family])
    build(model, dataclasses.replace(ExportForm(), **{switch: other}), tmp_path / "model.onnx")
    check_output(model, tmp_path / "model.onnx", 1)


@pytest.mark.parametrize("family", PARTS)
def test_graph_without_any_fold_computes_the_same(family: str, tmp_path: Path) -> None:
    model = make_model(PARTS[family])
    build(model, NOTHING, tmp_path / "model.onnx")
    check_output(model, tmp_path / "model.onnx", 1)


@pytest.mark.parametrize("family", PARTS)
def test_graph_with_a_larger_static_batch_computes_the_same(family: str, tmp_path: Path) -> None:
    model = make_model(PARTS[family])
    build(model, ExportForm(), tmp_path / "model.onnx", (3, 3, 3))
    check_output(model, tmp_path / "model.onnx", 3)


@pytest.mark.parametrize("family", PARTS)
def test_graph_with_a_dynamic_batch_computes_the_same_at_every_size(family: str, tmp_path: Path) -> None:
    model = make_model(PARTS[family])
    build(model, ExportForm(), tmp_path / "model.onnx", (1, 2, 5))
    for batch in (1, 2, 5):
        check_output(model, tmp_path / "model.onnx", batch)


def test_vit_graph_holds_the_expected_ops(tmp_path: Path) -> None:
    graph = build(make_model(VIT), ExportForm(), tmp_path / "model.onnx")
    depth = VIT.depth
    assert dict(graph.op_counts()) == {
        "Add": 1 + depth * (6 + 2),  # patches' bias and positions; six Linears and two residuals a block
        "Cast": 1,
        "Concat": 1,
        "Gather": 1,  # the class token for the head
        "Gelu": depth,
        "Gemm": 1,
        "LayerNormalization": 2 * depth + 1,
        "MatMul": 1 + depth * (6 + 2),
        "Reshape": 2 + 4 * depth,
        "Slice": 2,  # the last block's class token, and its normalised copy
        "Softmax": depth,
        "Transpose": 1 + 5 * depth,
    }


def test_swin_graph_holds_the_expected_ops(tmp_path: Path) -> None:
    graph = build(make_model(SWIN), ExportForm(), tmp_path / "model.onnx")
    counts = dict(graph.op_counts())
    # three stages of two blocks: two shifted blocks with one Gather each way, two mergings, and the first arrangement
    assert counts["Gather"] == 2 * 2 + 2 + 1
    assert counts["Softmax"] == counts["Gelu"] == 6
    assert counts["LayerNormalization"] == 1 + 2 * 6 + 2 + 1
    unwanted = "Pad Slice Concat GatherND ScatterND Expand Shape Mul Div Sub"
    assert not set(unwanted.split()) & set(counts)


@pytest.mark.parametrize("config", [VIT, SWIN], ids=["vit", "swin"])
def test_graph_has_no_scaling_and_no_permute_beyond_rank_4(config: ViTConfig | SwinConfig, tmp_path: Path) -> None:
    graph = build(make_model(config), ExportForm(), tmp_path / "model.onnx")
    for node in graph.model.graph:
        assert node.op_type not in ("Mul", "Div", "Sub")
        if node.op_type == "Transpose":
            assert len(node.attributes["perm"].as_ints()) <= 4
        if node.op_type == "Add":
            for value in node.inputs:
                assert value is not None
                assert value.shape is None or len(value.shape) <= 4


def test_unfolded_graph_scales_queries_and_normalises_input(tmp_path: Path) -> None:
    """The near miss: without the folds the ops that they remove are there."""
    graph = build(make_model(VIT), NOTHING, tmp_path / "model.onnx")
    counts = graph.op_counts()
    assert counts["Mul"] == VIT.depth + 1
    assert counts["Conv"] == 1
    assert counts["Split"] == VIT.depth
    assert "Slice" not in counts


def test_sites_are_named_by_module_whatever_the_exporter_calls_them(tmp_path: Path) -> None:
    graph = build(make_model(SWIN), ExportForm(), tmp_path / "model.onnx")
    names = [site.name for site in graph.sites()]
    assert names[:8] == [
        "patch_embed.proj",
        "layers.0.blocks.0.attn.q",
        "layers.0.blocks.0.attn.k",
        "layers.0.blocks.0.attn.v",
        "layers.0.blocks.0.attn/scores",
        "layers.0.blocks.0.attn/context",
        "layers.0.blocks.0.attn.proj",
        "layers.0.blocks.0.mlp.fc1",
    ]
    assert names[-1] == "head"
    assert len(set(names)) == len(names)


def test_two_exports_of_one_model_are_the_same_bytes(tmp_path: Path) -> None:
    model = make_model(VIT)
    for name in ("a.onnx", "b.onnx"):
        optimize_graph(export_model(model, ExportForm())[0])[0].save(tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_exporter_failure_names_the_model_and_its_last_lines() -> None:
    model = make_model(VIT)

    class Broken(torch.nn.Module):
        config = VIT
        patch_embed = model.module.patch_embed

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum() if float(x.sum()) > 0 else x

    with pytest.raises(ExportError, match=r"refused small_vit"):
        export_model(dataclasses.replace(model, module=Broken()), NOTHING)


def test_optimize_with_an_unknown_pass_lists_the_passes() -> None:
    exported, _ = export_model(make_model(VIT), ExportForm())
    with pytest.raises(PassError, match="unknown pass fuse_everything") as caught:
        optimize_graph(exported, disable=["fuse_everything"])
    assert "fold_constants" in caught.value.hint


@pytest.mark.parametrize("family", PARTS)
@pytest.mark.parametrize("form", [ExportForm(fold_last_block=False), NOTHING], ids=["folded", "unfolded"])
def test_multiplications_of_the_sites_add_up_to_what_torch_counts(
    family: str, form: ExportForm, tmp_path: Path
) -> None:
    model = make_model(PARTS[family])
    graph = build(model, form, tmp_path / "model.onnx")
    with count_flops() as counter, torch.inference_mode():
        float_module(model)(make_images(model.config, 1))
    assert sum(site.macs for site in graph.sites()) == counter.get_total_flops() // 2
