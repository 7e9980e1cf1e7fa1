"""A small map is enlarged by two products, with the numbers of a Resize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgevit.core.pass_record import PassRecord
from edgevit.graph.graph import Graph
from edgevit.graph.passes.fold_static_shapes import fold_static_shapes
from edgevit.graph.passes.multiply_resize import multiply_resize
from edgevit.graph.segments import run_inputs
from tests.support.foreign_exports import silence


class Enlarge(torch.nn.Module):
    """A map at another size, by itself or with something behind it."""

    def __init__(self, size: tuple[int, int], how: dict[str, Any], *, at_end: bool) -> None:
        super().__init__()
        self.size, self.how, self.at_end = size, how, at_end

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result = functional.interpolate(x * 2, self.size, **self.how)
        return result if self.at_end else torch.sigmoid(result)


def make(model: Enlarge, image: torch.Tensor, folder: Path) -> Graph:
    with silence():
        torch.onnx.export(
            model.eval(), (image,), folder / "m.onnx", dynamo=False, opset_version=17, input_names=["x"],
            output_names=["y"],
        )  # fmt: skip
    graph = Graph.load(folder / "m.onnx")
    fold_static_shapes(graph)
    return graph


def rewrite(
    folder: Path, shape: tuple[int, ...], size: tuple[int, int], how: dict[str, Any], *, at_end: bool = False
) -> tuple[Graph, PassRecord]:
    """Checked against torch, whether it is rewritten or not."""
    model = Enlarge(size, how, at_end=at_end)
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    graph = make(model, image, folder)
    record = multiply_resize(graph)
    with torch.inference_mode():
        wanted = model(image).numpy()
    found = run_inputs(graph, {"x": image.numpy()})[0]
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 2e-5 * np.abs(wanted).max()
    assert [value.name for value in graph.model.graph.outputs] == ["y"]
    return graph, record


BILINEAR = {"mode": "bilinear", "align_corners": False}


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(
    "how",
    [BILINEAR, {"mode": "bilinear", "align_corners": True}, {"mode": "bicubic"}, {"mode": "nearest"}],
    ids=["bilinear", "corners", "cubic", "nearest"],
)
@pytest.mark.parametrize(("shape", "size"), [((1, 1, 12, 9), (21, 32)), ((2, 4, 5, 8), (5, 17))])
def test_small_map_is_enlarged_by_products(
    shape: tuple[int, ...], size: tuple[int, int], how: dict[str, Any], at_end: bool, tmp_path: Path
) -> None:
    graph, record = rewrite(tmp_path, shape, size, how, at_end=at_end)
    counts = graph.op_counts()
    assert (counts.get("Resize", 0), counts["MatMul"]) == (0, 2)
    assert len(record.applied) == 1


@pytest.mark.parametrize(
    ("shape", "size", "reason"),
    [
        ((1, 5, 6, 6), (12, 12), "the map has 5 channels"),
        ((1, 1, 6, 6), (5, 7), "the map is not enlarged"),
        ((1, 1, 4, 512), (8, 1024), "the map is so large that products take longer"),
    ],
)
def test_other_maps_keep_their_resize(
    shape: tuple[int, ...], size: tuple[int, int], reason: str, tmp_path: Path
) -> None:
    graph, record = rewrite(tmp_path, shape, size, BILINEAR)
    assert graph.op_counts()["Resize"] == 1
    assert [skip.reason for skip in record.skipped] == [reason]
