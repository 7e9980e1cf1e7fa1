"""Graph on disk: one file, or weights beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgevit.graph.graph import Graph
from tests.support.small_graphs import make_graph, make_pixels, run_graph


@pytest.fixture(scope="module")
def graph() -> Graph:
    return make_graph("vit")


def test_weights_beside_are_mapped_and_compute_the_same(graph: Graph, tmp_path: Path) -> None:
    graph.save(tmp_path / "graph.onnx", beside=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["graph.data", "graph.onnx"]
    loaded = Graph.load(tmp_path / "graph.onnx")
    large = [v.const_value for v in loaded.model.graph.initializers.values() if v.const_value.nbytes > 4096]
    assert large
    assert all(isinstance(tensor, ir.ExternalTensor) for tensor in large)
    images = make_pixels("vit", 2)
    np.testing.assert_array_equal(run_graph(loaded, images)[0], run_graph(graph, images)[0])


def test_a_file_written_from_mapped_weights_is_complete_in_itself(graph: Graph, tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    graph.save(tmp_path / "stage/graph.onnx", beside=True)
    loaded = Graph.load(tmp_path / "stage/graph.onnx")
    loaded.save(tmp_path / "whole.onnx")
    graph.save(tmp_path / "direct.onnx")
    shutil.rmtree(tmp_path / "stage")
    onnx.checker.check_model(str(tmp_path / "whole.onnx"), full_check=True)
    assert (tmp_path / "whole.onnx").read_bytes() == (tmp_path / "direct.onnx").read_bytes()
    kept = [v.const_value for v in loaded.model.graph.initializers.values()]
    assert any(isinstance(tensor, ir.ExternalTensor) for tensor in kept), "saving changes no graph"


def test_weights_of_one_file_are_read_once(graph: Graph, tmp_path: Path) -> None:
    graph.save(tmp_path / "graph.onnx")
    loaded = Graph.load(tmp_path / "graph.onnx")
    for value in loaded.model.graph.initializers.values():
        first, second = value.const_value.numpy(), value.const_value.numpy()
        assert np.shares_memory(first, second) or first.size == 0
