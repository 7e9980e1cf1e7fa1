"""A Resize by scales is one by sizes where that is exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgevit.graph.graph import Graph
from edgevit.graph.passes.fold_static_shapes import fold_static_shapes
from edgevit.graph.passes.restate_resize import restate_resize
from tests.support.small_graphs import run_graph


def make(scales: list[float], folder: Path, **attributes: Any) -> Graph:
    node = helper.make_node("Resize", ["image", "", "scales"], ["y"], name="resize", **attributes)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 2, 6, 9])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    table = onnx.numpy_helper.from_array(np.asarray(scales, np.float32), "scales")
    proto = helper.make_graph([node], "g", [image], [result], [table])
    path = folder / "m.onnx"
    onnx.save(helper.make_model(proto, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), str(path))
    graph = Graph.load(path)
    fold_static_shapes(graph)
    return graph


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("transformation", ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"])
def test_restated_resize_gives_the_same_numbers(mode: str, transformation: str, tmp_path: Path) -> None:
    graph = make([1, 1, 2, 1 / 3], tmp_path, mode=mode, coordinate_transformation_mode=transformation)
    image: Any = np.random.default_rng(0).normal(size=(1, 2, 6, 9)).astype(np.float32)
    wanted = run_graph(graph, [image], ["y"])[0]
    assert restate_resize(graph).applied == ("resize",)
    node = next(iter(graph.model.graph))
    assert [value is None for value in node.inputs] == [False, True, True, False]
    assert np.abs(run_graph(graph, [image], ["y"])[0] - wanted).max() <= 1e-6


@pytest.mark.parametrize(
    ("scales", "attributes", "reason"),
    [
        ([1, 1, 1.7, 2], {"mode": "linear"}, "no ratios of whole sizes"),
        ([1, 1, 2, 2], {"coordinate_transformation_mode": "tf_crop_and_resize"}, "cuts a part out"),
    ],
    ids=["part of a pixel", "crop"],
)
def test_what_sizes_do_not_say_is_left(
    scales: list[float], attributes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    graph = make(scales, tmp_path, **attributes)
    record = restate_resize(graph)
    assert not record.applied
    assert reason in record.skipped[0].reason
