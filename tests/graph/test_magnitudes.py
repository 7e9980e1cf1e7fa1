"""Largest magnitudes against those of the whole graph."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgevit.core.progress import ignore_progress
from edgevit.graph.graph import Graph
from edgevit.graph.magnitudes import measure_magnitudes
from tests.support.small_graphs import make_graph, make_pixels, run_graph


@pytest.mark.parametrize("family", ["vit", "swin"])
def test_magnitudes_are_those_of_the_whole_graph(family: str) -> None:
    graph, images = make_graph(family), make_pixels(family, 3)
    names = [v.name or "" for node in graph.model.graph for v in node.outputs if v.dtype == ir.DataType.FLOAT]
    assert "logits" in names
    steps: list[tuple[str, int, int]] = []
    found = measure_magnitudes(graph, names, images, "look", lambda *step: steps.append(step))
    assert list(found) == names
    for name, whole in zip(names, run_graph(graph, images, names), strict=True):
        np.testing.assert_allclose(found[name], np.abs(whole).max(), rtol=1e-4, atol=1e-5, err_msg=name)
    assert steps == [("look", n, len(steps) - 1) for n in range(len(steps))]


@pytest.mark.parametrize("order", [(1, 9), (9, 1)])
def test_a_value_that_is_no_number_on_one_image_stays_so(order: tuple[int, int]) -> None:
    text = (
        '<ir_version: 10, opset_import: ["" : 20]> g (uint8[1,2] p) => (float[1,2] z) <float[2,2] w = {1, 0, 0, 1}>'
        "{ x = Cast <to = 1> (p) m = MatMul (x, w) five = Constant <value_float = 5.0> ()"
        " rest = Sub (five, m) y = Sqrt (rest) z = MatMul (y, w) }"
    )
    typed = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))
    graph = Graph(ir.serde.deserialize_model(typed))
    images = [np.full((1, 2), value, np.uint8) for value in order]
    found = measure_magnitudes(graph, ["rest", "y"], images, "", ignore_progress)
    assert found["rest"] == 4
    assert np.isnan(found["y"])
