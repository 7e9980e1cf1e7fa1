"""A convolution behind a Resize is computed on the smaller map, with the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional

from edgevit.graph.graph import Graph
from edgevit.graph.passes.fold_static_shapes import fold_static_shapes
from edgevit.graph.passes.move_convolution import move_convolution
from edgevit.graph.passes.restate_resize import restate_resize
from tests.support.foreign_exports import silence
from tests.support.small_graphs import run_graph


class Head(nn.Module):
    """What a decoder ends in: a map that is resized, and a convolution."""

    def __init__(self, conv: nn.Module, size: tuple[int, int], mode: str, align_corners: bool | None) -> None:
        super().__init__()
        self.conv, self.size, self.mode, self.align_corners = conv, size, mode, align_corners

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        large = functional.interpolate(image, self.size, mode=self.mode, align_corners=self.align_corners)
        return self.conv(torch.relu(large) if self.conv.stride == (3, 3) else large)


def make(head: Head, folder: Path) -> Graph:
    path = folder / "m.onnx"
    with silence():
        torch.onnx.export(
            head.eval(), (torch.zeros(1, 48, 5, 4),), path, dynamo=False, opset_version=17,
            input_names=["image"], output_names=["y"],
        )  # fmt: skip
    graph = Graph.load(path)
    fold_static_shapes(graph)
    restate_resize(graph)
    return graph


def compare(head: Head, graph: Graph) -> None:
    image = torch.randn(1, 48, 5, 4, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = head(image).numpy()
    found = run_graph(graph, [image.numpy()], ["y"])[0]
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


RESIZES: dict[str, tuple[tuple[int, int], str, bool | None]] = {
    "bilinear": ((20, 16), "bilinear", False),
    "corners": ((20, 16), "bilinear", True),
    "nearest": ((10, 8), "nearest", None),
    "bicubic": ((20, 16), "bicubic", False),
    "other ratios": ((13, 9), "bilinear", False),
}


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("bias", [True, False])
def test_pointwise_convolution_changes_places_with_the_resize(resize: str, bias: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    head = Head(nn.Conv2d(48, 16, 1, bias=bias), *RESIZES[resize])
    graph = make(head, tmp_path)
    record = move_convolution(graph)
    assert len(record.applied) == 1
    assert [node.op_type for node in graph.model.graph] == ["Conv", "Resize"]
    compare(head, graph)


CONVS: dict[str, dict[str, Any]] = {
    "same": {"padding": 1},
    "no bias": {"padding": 1, "bias": False},
    "valid": {},
    "strided": {"padding": 1, "stride": 2},
    "dilated": {"padding": 2, "dilation": 2},
    "unequal": {"kernel_size": (3, 1), "padding": (1, 0)},
}


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("resize", ["bilinear", "corners"])
def test_convolution_to_few_channels_is_computed_place_by_place(conv: str, resize: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = {"kernel_size": 3, **CONVS[conv]}
    head = Head(nn.Conv2d(48, 2, **settings), *RESIZES[resize])
    if conv == "strided":  # a quarter of the places: the smaller map is little smaller than that
        head.size = (40, 32)
    graph = make(head, tmp_path)
    record = move_convolution(graph)
    assert len(record.applied) == 1
    counts = graph.op_counts()
    assert "Resize" not in counts
    assert counts["MatMul"] == 2
    kernel = next(node for node in graph.model.graph if node.op_type == "Conv").inputs[1]
    assert kernel is not None
    assert kernel.shape is not None
    assert list(kernel.shape) == [2 * (3 if conv == "unequal" else 9), 48, 1, 1]
    compare(head, graph)


@pytest.mark.parametrize(
    ("conv", "size", "reason"),
    [
        (nn.Conv2d(48, 48, 3, padding=1), (10, 8), "it would take as long"),
        (nn.Conv2d(48, 64, 1), (10, 8), "more channels would be resized"),
        (nn.Conv2d(48, 16, 1), (4, 3), "not enlarged"),
        (nn.Conv2d(48, 24, 1, groups=2), (10, 8), "in groups"),
        (nn.Conv2d(48, 1, 3, padding=3), (20, 16), ""),
    ],
    ids=["many channels", "more channels", "smaller", "groups", "wide border"],
)
def test_what_gets_no_cheaper_is_left_with_a_reason(
    conv: nn.Module, size: tuple[int, int], reason: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    head = Head(conv, size, "bilinear", False)
    graph = make(head, tmp_path)
    record = move_convolution(graph)
    if reason:
        assert not record.applied
        assert [node.op_type for node in graph.model.graph] == ["Resize", "Conv"]
        assert reason in record.skipped[0].reason
    compare(head, graph)


def test_bias_that_no_place_of_the_kernel_can_take_keeps_the_convolution(tmp_path: Path) -> None:
    torch.manual_seed(0)
    head = Head(nn.Conv2d(48, 1, (2, 3), padding=(2, 1)), (20, 16), "bilinear", False)
    graph = make(head, tmp_path)
    record = move_convolution(graph)
    assert "no place of its kernel" in record.skipped[0].reason
    compare(head, graph)


def test_resized_map_that_something_else_reads_stays(tmp_path: Path) -> None:
    head = Head(nn.Conv2d(48, 16, 1), (10, 8), "bilinear", False)
    graph = make(head, tmp_path)
    inner = graph.model.graph
    resized = next(node for node in inner if node.op_type == "Resize").outputs[0]
    inner.outputs.append(resized)
    assert "something else reads" in move_convolution(graph).skipped[0].reason


def test_convolution_behind_a_relu_is_no_case(tmp_path: Path) -> None:
    head = Head(nn.Conv2d(48, 16, 3, stride=3), (10, 8), "bilinear", False)
    record = move_convolution(make(head, tmp_path))
    assert not record.applied
    assert not record.skipped


def test_resize_that_is_followed_by_another_convolution_goes_behind_the_first(tmp_path: Path) -> None:
    node = helper.make_node("Resize", ["image", "", "", "sizes"], ["large"], name="resize", mode="linear", axes=[2, 3])
    first = helper.make_node("Conv", ["large", "w"], ["a"], name="first")
    second = helper.make_node("Conv", ["a", "w"], ["y"], name="second")
    rng = np.random.default_rng(0)
    constants: dict[str, Any] = {
        "sizes": np.asarray([9, 7], np.int64),
        "w": rng.normal(size=(6, 6, 1, 1)).astype(np.float32),
    }
    proto = helper.make_graph(
        [node, first, second],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [2, 6, 4, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 6, 9, 7])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(proto, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), str(path))
    graph = Graph.load(path)
    fold_static_shapes(graph)
    image: Any = rng.normal(size=(2, 6, 4, 3)).astype(np.float32)
    wanted = run_graph(graph, [image], ["y"])[0]
    assert len(move_convolution(graph).applied) == 2
    assert [n.op_type for n in graph.model.graph] == ["Conv", "Conv", "Resize"]
    assert np.abs(run_graph(graph, [image], ["y"])[0] - wanted).max() <= 1e-5
