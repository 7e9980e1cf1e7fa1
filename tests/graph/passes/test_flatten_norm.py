"""LayerNorms of maps become those of sequences, and masks products with them, with the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgevit.graph.graph import Graph
from edgevit.graph.passes.flatten_norm import flatten_norm
from edgevit.graph.passes.fold_static_shapes import fold_static_shapes
from edgevit.graph.passes.remove_moves import remove_moves
from edgevit.graph.passes.restate_einsum import restate_einsum
from edgevit.graph.segments import run_inputs
from tests.support.foreign_exports import silence


class Masks(nn.Module):
    """As EoMT draws them: a map of normalised channels, and queries that read it."""

    def __init__(self, equation: str = "bqc,bchw->bqhw", *, turned: bool = True) -> None:
        super().__init__()
        self.conv, self.equation, self.turned = nn.Conv2d(6, 6, 3, padding=1), equation, turned
        self.norm = nn.LayerNorm(6)
        nn.init.normal_(self.norm.weight)

    def forward(self, queries: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        value = self.conv(image)
        if self.turned:
            value = self.norm(value.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return torch.einsum(self.equation, queries, value)


def make(model: Masks, folder: Path, inputs: tuple[torch.Tensor, ...]) -> Graph:
    path = folder / "m.onnx"
    with silence():
        torch.onnx.export(
            model.eval(), inputs, path, dynamo=False, opset_version=17, input_names=["queries", "image"],
            output_names=["y"],
        )  # fmt: skip
    graph = Graph.load(path)
    fold_static_shapes(graph)
    return graph


def examples(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, 6, generator=generator), torch.randn(batch, 6, 5, 4, generator=generator)


def compare(model: Masks, graph: Graph, inputs: tuple[torch.Tensor, ...]) -> None:
    with torch.inference_mode():
        wanted = model(*inputs).numpy()
    found = run_inputs(graph, {"queries": inputs[0].numpy(), "image": inputs[1].numpy()})[0]
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("batch", [1, 2])
def test_masks_are_drawn_on_a_sequence_of_places(batch: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, inputs = Masks(), examples(batch)
    graph = make(model, tmp_path, inputs)
    assert len(flatten_norm(graph).applied) == 1
    assert len(restate_einsum(graph).applied) == 1
    remove_moves(graph)
    assert [node.op_type for node in graph.model.graph] == [
        "Conv", "Transpose", "Reshape", "LayerNormalization", "Transpose", "MatMul", "Reshape",
    ]  # fmt: skip
    norm = next(node for node in graph.model.graph if node.op_type == "LayerNormalization")
    assert list(norm.outputs[0].shape or ()) == [batch, 20, 6]
    compare(model, graph, inputs)


def test_norm_of_a_sequence_is_no_case(tmp_path: Path) -> None:
    graph = make(Masks(), tmp_path, examples(1))
    flatten_norm(graph)
    record = flatten_norm(graph)
    assert not record.applied
    assert not record.skipped


def test_norm_whose_result_the_graph_gives_stays(tmp_path: Path) -> None:
    graph = make(Masks(), tmp_path, examples(1))
    norm = next(node for node in graph.model.graph if node.op_type == "LayerNormalization")
    graph.model.graph.outputs.append(norm.outputs[0])
    assert "gives its result" in flatten_norm(graph).skipped[0].reason


@pytest.mark.parametrize("equation", ["bqc,bchw->bqwh", "bqh,bchw->bqcw", "bqc,bchw->bhwq"])
def test_other_einsum_stays(equation: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, (queries, image) = Masks(equation), examples(1)
    inputs = (queries[:, :, :5] if "h," in equation else queries, image)
    graph = make(model, tmp_path, inputs)
    record = restate_einsum(graph)
    assert not record.applied
    assert "no product of queries" in record.skipped[0].reason
    compare(model, graph, inputs)


def test_einsum_of_a_map_that_nothing_has_turned_is_no_case(tmp_path: Path) -> None:
    model: Any = Masks(turned=False)
    record = restate_einsum(make(model, tmp_path, examples(1)))
    assert not record.applied
    assert not record.skipped
