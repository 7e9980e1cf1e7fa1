"""Deformable attention as transformers writes it becomes a sum of maps, one for each level and point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from edgevit.graph.graph import Graph
from edgevit.graph.passes.fold_static_shapes import fold_static_shapes
from edgevit.graph.passes.fuse_token_gather import fuse_token_gather
from edgevit.graph.passes.remove_identity import remove_identity
from edgevit.graph.passes.restate_deformable_attention import restate_deformable_attention
from tests.support.foreign_exports import silence
from tests.support.reference import import_transformers
from tests.support.small_graphs import run_graph

HEADS, WIDTH, POINTS, QUERIES = 3, 4, 2, 7
LEVELS = {"one level": ((4, 5),), "three levels": ((2, 3), (4, 5), (6, 4))}


class Attend(nn.Module):
    """Queries that look into maps of several levels.

    Args:
        levels: Heights and widths.
        images: A call.
    """

    def __init__(self, levels: tuple[tuple[int, int], ...], images: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.levels, self.images = levels, images
        tokens, count = sum(h * w for h, w in levels), HEADS * len(levels) * POINTS
        self.value = nn.Linear(QUERIES * 6, tokens * HEADS * WIDTH)
        self.places, self.weights = nn.Linear(6, 2 * count), nn.Linear(6, count)

    def forward(self, image: torch.Tensor) -> Any:  # (N, QUERIES, 6)
        import_transformers()
        from transformers.models.mask2former import modeling_mask2former as code

        shape = (self.images, QUERIES, HEADS, len(self.levels), POINTS)
        value = self.value(image.flatten(1)).reshape(self.images, -1, HEADS, WIDTH)
        locations = 0.5 + self.places(image).reshape(*shape, 2)  # some beyond the maps' edges
        weights = self.weights(image).reshape(*shape[:3], -1).softmax(-1).reshape(shape)
        seen: Any = code.multi_scale_deformable_attention
        return seen(value, self.levels, locations, weights)


def make(module: Attend, folder: Path, *, dynamo: bool = False, gathered: bool = False) -> Graph:
    path, example = folder / "m.onnx", torch.zeros(module.images, QUERIES, 6)
    with silence():
        torch.onnx.export(
            module.eval(), (example,), path, dynamo=dynamo, opset_version=18 if dynamo else 17, input_names=["image"],
            output_names=["y"],
        )  # fmt: skip
    graph = Graph.load(path)
    fold_static_shapes(graph)
    remove_identity(graph)
    if gathered:
        assert fuse_token_gather(graph).applied
    return graph


def compare(module: Attend, graph: Graph) -> None:
    image = torch.randn(module.images, QUERIES, 6, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = module(image).numpy()
    found = run_graph(graph, [image.numpy()], ["y"])[0]
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("form", ["TorchScript", "dynamo", "gathered"])
def test_samples_are_added_up_point_by_point_with_the_same_numbers(
    levels: tuple[tuple[int, int], ...], form: str, tmp_path: Path
) -> None:
    module = Attend(levels)
    graph = make(module, tmp_path, dynamo=form == "dynamo", gathered=form == "gathered")
    assert len(restate_deformable_attention(graph).applied) == 1
    counts = graph.op_counts()
    assert counts["GridSample"] == len(levels) * POINTS
    assert "ReduceSum" not in counts
    assert "Concat" not in counts
    compare(module, graph)
    assert not restate_deformable_attention(graph).applied


def test_several_images_are_left_with_the_reason(tmp_path: Path) -> None:
    module = Attend(LEVELS["three levels"], images=2)
    graph = make(module, tmp_path)
    record = restate_deformable_attention(graph)
    assert not record.applied
    assert ["are not one value of queries, heads" in skip.reason for skip in record.skipped] == [True]
    compare(module, graph)


def test_samples_that_something_else_reads_too_are_left(tmp_path: Path) -> None:
    module = Attend(LEVELS["one level"])
    graph = make(module, tmp_path)
    product = next(node for node in graph.model.graph if node.op_type == "ReduceSum").inputs[0]
    assert product is not None
    copy = ir.node("Neg", [product])
    copy.outputs[0].name, copy.outputs[0].dtype, copy.outputs[0].shape = "z", ir.DataType.FLOAT, product.shape
    graph.model.graph.append(copy)
    graph.model.graph.outputs.append(copy.outputs[0])
    assert not restate_deformable_attention(graph).applied
    compare(module, graph)


def test_a_sum_of_something_else_is_none(tmp_path: Path) -> None:
    graph = make(Attend(LEVELS["one level"]), tmp_path)
    sample = next(node for node in graph.model.graph if node.op_type == "GridSample")
    relu = ir.node("Relu", [sample.outputs[0]])
    relu.outputs[0].shape, relu.outputs[0].dtype = sample.outputs[0].shape, ir.DataType.FLOAT
    sample.outputs[0].replace_all_uses_with(relu.outputs[0])
    relu.replace_input_with(0, sample.outputs[0])
    graph.model.graph.insert_after(sample, [relu])
    record = restate_deformable_attention(graph)
    assert not record.applied
    assert not record.skipped
