"""Segments against the whole graph."""

from __future__ import annotations

import functools
import itertools
import operator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.graph.graph import Graph
from edgevit.graph.segments import SegmentRunner, extract_segment, release_weights, split_graph
from tests.support.small_graphs import make_graph, make_pixels, run_graph

FAMILIES = ("vit", "swin")


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest) -> tuple[str, Graph]:
    return request.param, make_graph(request.param)


def test_split_graph_chained_segments_equal_the_whole_graph(case: tuple[str, Graph]) -> None:
    family, graph = case
    images = make_pixels(family, 3)
    values: list[np.ndarray] = list(images)
    for segment in split_graph(graph):
        runner = SegmentRunner(extract_segment(segment))
        values = [runner.run(value)[0] for value in values]
    np.testing.assert_allclose(np.concatenate(values), run_graph(graph, images)[0], rtol=1e-4, atol=1e-5)


def test_split_graph_puts_every_node_in_one_segment_and_a_site_in_each(case: tuple[str, Graph]) -> None:
    _, graph = case
    segments = split_graph(graph)
    assert [node for segment in segments for node in segment.nodes] == list(graph.model.graph)
    sites = {site.name for site in graph.sites()}
    held = [[node.name for node in segment.nodes if node.name in sites] for segment in segments]
    assert all(held)
    assert sorted(functools.reduce(operator.iadd, held, [])) == sorted(sites)
    # Patch embedding, two halves of each block, a merging, and the head: no segment holds more than it must.
    blocks = len({name.rsplit(".attn", 1)[0] for name in sites if ".attn" in name})
    merging = sum("downsample" in name for name in sites)
    assert len(segments) == 1 + 2 * blocks + merging + 1


def test_split_graph_segments_read_one_activation_and_begin_where_the_last_ended(case: tuple[str, Graph]) -> None:
    _, graph = case
    segments = split_graph(graph)
    assert segments[0].source is graph.model.graph.inputs[0]
    assert segments[-1].result is graph.model.graph.outputs[0]
    for before, after in itertools.pairwise(segments):
        assert after.source is before.result
    for segment in segments:
        made = {value for node in segment.nodes for value in node.outputs}
        read = {v for node in segment.nodes for v in node.inputs if v is not None and v.const_value is None}
        assert read - made == {segment.source}


def test_split_graph_keeps_a_linear_and_its_bias_together(case: tuple[str, Graph]) -> None:
    _, graph = case
    for segment in split_graph(graph):
        names = {node.name for node in segment.nodes}
        for site in graph.sites():
            bias = f"{site.name}/bias"
            assert (site.name in names) == (bias in names) or bias not in {n.name for n in graph.model.graph}


def test_extract_segment_taps_equal_the_values_of_the_whole_graph(case: tuple[str, Graph]) -> None:
    family, graph = case
    images = make_pixels(family, 1)
    value: np.ndarray = images[0]
    for segment in split_graph(graph):
        taps = [node.outputs[0].name or "" for node in segment.nodes if node.op_type in ("LayerNormalization", "Gelu")]
        result, *tapped = SegmentRunner(extract_segment(segment, taps)).run(value)
        for found, wanted in zip(tapped, run_graph(graph, images, taps) if taps else [], strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
        value = result


def test_extract_segment_leaves_the_graph_alone(case: tuple[str, Graph]) -> None:
    _, graph = case
    before = [(node.name, [v.name for v in node.inputs if v is not None]) for node in graph.model.graph]
    for segment in split_graph(graph):
        twin = extract_segment(segment)
        assert {n.name for n in twin.model.graph} == {n.name for n in segment.nodes}
        assert not set(twin.model.graph) & set(segment.nodes)
    assert [(node.name, [v.name for v in node.inputs if v is not None]) for node in graph.model.graph] == before
    assert [v.name for v in graph.model.graph.outputs] == ["logits"]


def test_runner_leaves_the_weights_of_its_graph_alone(case: tuple[str, Graph]) -> None:
    """It takes them away while the graph is written for ONNX Runtime."""
    _, graph = case
    before = {name: value.const_value for name, value in graph.model.graph.initializers.items()}
    assert any(tensor is not None and tensor.nbytes > 1024 for tensor in before.values())
    SegmentRunner(graph)
    assert all(value.const_value is before[name] for name, value in graph.model.graph.initializers.items())


def test_segments_of_weights_on_disk_compute_the_same_also_after_a_release(
    case: tuple[str, Graph], tmp_path: Path
) -> None:
    family, graph = case
    graph.save(tmp_path / "graph.onnx", beside=True)
    mapped = Graph.load(tmp_path / "graph.onnx")
    image = make_pixels(family, 1)[0]
    value: Any = image
    twin: Any = image
    for segment, same in zip(split_graph(mapped), split_graph(graph), strict=True):
        held = [v.const_value.numpy() for node in segment.nodes for v in node.inputs if v is not None and v.const_value]
        assert release_weights(segment) == sum(
            v.const_value.nbytes for node in segment.nodes for v in node.inputs if v is not None and v.const_value
        )
        value = SegmentRunner(extract_segment(segment)).run(value)[0]
        twin = SegmentRunner(extract_segment(same)).run(twin)[0]
        np.testing.assert_array_equal(value, twin)
        del held
    release_weights(split_graph(mapped)[0])
    np.testing.assert_array_equal(run_graph(mapped, [image])[0], run_graph(graph, [image])[0])
