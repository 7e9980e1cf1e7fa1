"""A convolution of maps side by side is split by them, with the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgevit.graph.graph import Graph, known_shape
from edgevit.graph.passes.fold_static_shapes import fold_static_shapes
from edgevit.graph.passes.restate_resize import restate_resize
from edgevit.graph.passes.split_convolution import split_convolution
from edgevit.graph.segments import run_inputs
from tests.support.foreign_exports import silence

CHANNELS = 48


class Pyramid(nn.Module):
    """Levels that are resized to the first one's size, and mixed."""

    def __init__(self, conv: nn.Module, sizes: Sequence[tuple[int, int]], **how: Any) -> None:
        super().__init__()
        self.conv, self.sizes, self.how, self.twice = conv, sizes, {"mode": "bilinear", **how}, False

    def forward(self, *maps: torch.Tensor) -> Any:
        size = maps[0].shape[2:] if self.sizes[0] != (2, 2) else (16, 12)
        joined = torch.cat([m if m.shape[2:] == size else functional.interpolate(m, size, **self.how) for m in maps], 1)
        result = self.conv(joined)
        return (torch.relu(result), joined) if self.twice else torch.relu(result)

    def images(self, batch: int) -> tuple[torch.Tensor, ...]:
        generator = torch.Generator().manual_seed(1)
        return tuple(torch.randn(batch, CHANNELS, *size, generator=generator) for size in self.sizes)


def make(model: Pyramid, folder: Path, batch: int = 1) -> Graph:
    path, names = folder / "m.onnx", [f"map{i}" for i in range(len(model.sizes))]
    with silence():
        torch.onnx.export(
            model.eval(), model.images(batch), path, dynamo=False, opset_version=17, input_names=names,
            output_names=["y", "joined"] if model.twice else ["y"],
        )  # fmt: skip
    graph = Graph.load(path)
    fold_static_shapes(graph)
    restate_resize(graph)
    return graph


def run(graph: Graph, images: Sequence[torch.Tensor]) -> npt.NDArray[np.float32]:
    return run_inputs(graph, {f"map{place}": image.numpy() for place, image in enumerate(images)})[0]


def compare(model: Pyramid, graph: Graph, batch: int = 1) -> None:
    images = model.images(batch)
    with torch.inference_mode():
        wanted = model(*images)
    wanted = wanted[0] if model.twice else wanted
    found = run(graph, images)
    assert found.shape == tuple(wanted.shape)
    assert np.abs(found - wanted.numpy()).max() <= 1e-5 * np.abs(wanted.numpy()).max()


LEVELS = [(16, 12), (8, 6), (4, 3), (2, 2)]
CONVS: dict[str, dict[str, Any]] = {
    "same": {"padding": 1},
    "no bias": {"padding": 1, "bias": False},
    "valid": {},
    "dilated": {"padding": 2, "dilation": 2},
    "unequal": {"kernel_size": (3, 1), "padding": (1, 0)},
    "one row": {"kernel_size": (1, 3), "padding": (0, 1)},
}


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("corners", [True, False])
def test_pyramid_is_mixed_level_by_level(conv: str, corners: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4 * CHANNELS, 5, **{"kernel_size": 3, **CONVS[conv]})
    model = Pyramid(layer, LEVELS, align_corners=corners)
    graph = make(model, tmp_path)
    record = split_convolution(graph)
    assert len(record.applied) == 1
    counts = graph.op_counts()
    levels = 3 - counts.get("Resize", 0)  # a level stays where it gets no cheaper
    assert levels >= 2
    assert counts["Conv"] == 1 + levels
    assert counts["MatMul"] == 2 * levels
    compare(model, graph)


def test_several_images_and_two_maps_that_stay(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Pyramid(nn.Conv2d(4 * CHANNELS, 5, 3, padding=1), [(16, 12), (4, 3), (16, 12), (2, 2)])
    graph = make(model, tmp_path, batch=2)
    assert len(split_convolution(graph).applied) == 1
    joined = [node for node in graph.model.graph if node.op_type == "Concat" and node.attributes.get_int("axis") == 1]
    assert [len(node.inputs) for node in joined if "kept" in (node.name or "")] == [2]
    assert max(known_shape(n.inputs[1])[1] for n in graph.model.graph if n.op_type == "Conv") == 2 * CHANNELS
    compare(model, graph, batch=2)


@pytest.mark.parametrize("bias", [True, False])
def test_where_no_map_stays_the_bias_is_added_behind(bias: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Pyramid(nn.Conv2d(2 * CHANNELS, 5, 3, padding=1, bias=bias), [(2, 2), (4, 3)])
    graph = make(model, tmp_path)
    assert len(split_convolution(graph).applied) == 1
    assert "Resize" not in graph.op_counts()
    compare(model, graph)


def test_answer_of_the_graph_keeps_its_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Pyramid(nn.Conv2d(2 * CHANNELS, 5, 3, padding=1), [(16, 12), (2, 2)])
    graph = make(model, tmp_path)
    inner = graph.model.graph
    relu = next(node for node in inner if node.op_type == "Relu")
    result = relu.inputs[0]
    assert result is not None
    inner.outputs[0], relu.outputs[0].name, result.name = result, "relu", "y"
    images = model.images(1)
    wanted = run(graph, images)
    assert len(split_convolution(graph).applied) == 1
    found = run(graph, images)
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("conv", "sizes", "twice", "reason"),
    [
        (nn.Conv2d(96, 5, 3, padding=1), [(16, 12), (14, 11)], False, "it would take as long"),
        (nn.Conv2d(96, 6, 3, padding=1, groups=2), [(16, 12), (2, 2)], False, "in groups"),
        (nn.Conv2d(96, 5, 3, padding=1), [(4, 3), (16, 12)], False, "not enlarged"),
        (nn.Conv2d(96, 5, 3, padding=1), [(16, 12), (2, 2)], True, "something else reads"),
    ],
    ids=["little smaller", "groups", "made smaller", "read twice"],
)
def test_what_gets_no_cheaper_is_left_with_a_reason(
    conv: nn.Module, sizes: list[tuple[int, int]], twice: bool, reason: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = Pyramid(conv, sizes)
    model.twice = twice
    graph = make(model, tmp_path)
    before = [node.op_type for node in graph.model.graph]
    record = split_convolution(graph)
    assert not record.applied
    assert reason in record.skipped[0].reason
    assert [node.op_type for node in graph.model.graph] == before
    compare(model, graph)


def test_maps_that_nothing_resizes_are_no_case(tmp_path: Path) -> None:
    model = Pyramid(nn.Conv2d(2 * CHANNELS, 5, 3), [(16, 12), (16, 12)])
    record = split_convolution(make(model, tmp_path))
    assert not record.applied
    assert not record.skipped


class Enlarged(Pyramid):
    """One map that is projected, enlarged and mixed, as in DPT's head."""

    def __init__(self, first: nn.Module, conv: nn.Module) -> None:
        super().__init__(conv, [(8, 6)], align_corners=True)
        self.first = first

    def forward(self, *maps: torch.Tensor) -> Any:
        return self.conv(functional.interpolate(self.first(maps[0]), (16, 12), **self.how))


FIRSTS: dict[str, tuple[nn.Module, bool]] = {
    "projection": (nn.Conv2d(CHANNELS, CHANNELS, 1), True),
    "no bias": (nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False), True),
    "fewer channels": (nn.Conv2d(CHANNELS, 32, 1), False),
    "larger kernel": (nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), False),
    "groups": (nn.Conv2d(CHANNELS, CHANNELS, 1, groups=2), False),
    "activation": (nn.ReLU(), False),
}


@pytest.mark.parametrize("first", FIRSTS)
def test_enlarged_map_is_split_with_the_projection_in_front(first: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer, joins = FIRSTS[first]
    channels = layer.out_channels if isinstance(layer, nn.Conv2d) else CHANNELS
    model = Enlarged(layer, nn.Conv2d(channels, 16, 3, padding=1))
    graph = make(model, tmp_path)
    images = model.images(1)
    before = sum(node.op_type == "Conv" for node in graph.model.graph)
    assert len(split_convolution(graph).applied) == 1
    counts = graph.op_counts()
    assert counts["Conv"] == before - joins  # a projection becomes part of the kernel: its bias too, up to the border
    assert "Resize" not in counts
    assert counts["MatMul"] == 2
    with torch.inference_mode():
        wanted = model(*images).numpy()
    assert np.abs(run(graph, images) - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_convolution_that_a_recipe_names_is_kept(tmp_path: Path) -> None:
    graph = make(Enlarged(nn.ReLU(), nn.Conv2d(CHANNELS, 16, 3, padding=1)), tmp_path)
    name = next(node.name for node in graph.model.graph if node.op_type == "Conv")
    assert not split_convolution(graph, {name or ""}).applied
    assert "Resize" in graph.op_counts()
