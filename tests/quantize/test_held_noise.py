"""What a model chooses by score is held where noise is measured: rows that change places are no noise of theirs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest

from edgevit.core.quantization import Quantization
from edgevit.graph.graph import Graph
from edgevit.graph.held_choices import find_choices, find_indices, hold_choices
from edgevit.graph.segments import SegmentRunner
from edgevit.quantize import carried_noise
from edgevit.quantize.plan import QuantizationPlan, apply_plan
from edgevit.quantize.sensitivity import choose_float, rank_groups, rank_sites, to_decibels
from edgevit.quantize.site_noise import hold_graph, measure_noise, measure_sites, run_held
from tests.support.quantized import fit_sites
from tests.support.small_graphs import find_node, make_graph, run_graph
from tests.support.small_models import VIT, make_images
from tests.support.whole_graphs import make_detector_graph, make_whole_graph

IMAGES = [image[None] for image in make_images(VIT, 6).numpy()]
SCORES, CHOSEN = "head/best/scores", "head/chosen"
Values = npt.NDArray[Any]


def fit() -> tuple[Graph, QuantizationPlan]:
    pins: Any = dict.fromkeys(("head/memory", "head/classes", "head/logits", "head/corners"), "int8")
    return fit_sites(make_detector_graph(), IMAGES, Quantization(sites=pins), "openvino")[:2]


@pytest.fixture(scope="module")
def planned() -> tuple[Graph, QuantizationPlan]:
    return fit()


def answer(graph: Graph, image: Values, chosen: Values | None = None) -> dict[str, Values]:
    return SegmentRunner(graph).run_named(image, {} if chosen is None else {CHOSEN: chosen})


def score(graph: Graph, image: Values) -> Values:
    """What the TopK reads."""
    return run_graph(graph, [image], [find_node(graph, "head/scores").outputs[0].name or ""])[0]


def choose(graph: Graph, image: Values) -> Values:
    """The graph's choice, by numpy: the largest first."""
    return np.argsort(-score(graph, image), axis=1)[:, :9]


def noise_of(found: Values, wanted: Values) -> float:
    return float(np.square(found - wanted).sum() / np.square(wanted).sum())


def disturb(graph: Graph) -> Graph:
    """A graph whose tokens have a little noise."""
    result = graph.copy()
    memory = find_node(result, "head/memory")
    weight = memory.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    numbers = weight.const_value.numpy()
    noise = np.random.default_rng(1).normal(0, 0.01 * numbers.std(), numbers.shape)
    weight.const_value = ir.tensor((numbers + noise).astype(np.float32), name=weight.name)
    return result


def test_held_graph_answers_as_the_graph_where_the_choice_is_its_own() -> None:
    graph = make_detector_graph()
    before = graph.op_counts()
    held = hold_choices(graph)
    assert [value.name for value in held.model.graph.inputs] == ["image", CHOSEN]
    assert [value.name for value in held.model.graph.outputs] == [SCORES, "logits", "boxes"]
    assert "TopK" not in held.op_counts()
    onnx.checker.check_model(ir.to_proto(held.model))
    for image in IMAGES:
        found, wanted = answer(held, image, choose(graph, image)), answer(graph, image)
        for name in ("logits", "boxes"):
            np.testing.assert_allclose(found[name], wanted[name], atol=1e-6)
        scores = score(graph, image)
        assert np.isinf(scores).sum() == 3
        np.testing.assert_array_equal(found[SCORES], np.where(np.isinf(scores), 0, scores))
    assert graph.op_counts() == before


def test_noise_swaps_rows_unless_they_are_held() -> None:
    graph = make_detector_graph()
    noisy, free, held = disturb(graph), [], []
    for image in IMAGES:
        chosen, wanted = choose(graph, image), answer(graph, image)
        free.append(noise_of(answer(noisy, image)["logits"], wanted["logits"]))
        held.append(noise_of(answer(hold_choices(noisy), image, chosen)["logits"], wanted["logits"]))
    assert max(held) < 1e-3
    assert max(free) > 0.1  # rows of other tokens


def test_given_choice_decides_rows_and_values() -> None:
    graph, image = make_detector_graph(), IMAGES[0]
    held, chosen = hold_choices(graph), choose(make_detector_graph(), IMAGES[0])
    wanted, turned = answer(held, image, chosen), answer(held, image, chosen[:, ::-1].copy())
    assert noise_of(turned["logits"], wanted["logits"]) > 0.1
    np.testing.assert_array_equal(turned[SCORES], wanted[SCORES])


@pytest.mark.parametrize("kind", ["ArgMax", "ArgMin"])
def test_a_choice_of_one_is_held_too(kind: str) -> None:
    graph = parse(f"at = {kind} <axis = 1, keepdims = 0> (doubled) y = Gather (table, at)", "float[1,3] y")
    held = hold_choices(graph)
    assert [value.name for value in held.model.graph.inputs] == ["image", "at"]
    given = SegmentRunner(held).run_named(np.ones((1, 4), np.float32), {"at": np.asarray([2])})
    np.testing.assert_array_equal(given["y"], [[6, 7, 8]])


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("y, at = TopK (doubled, two)", "float[1,2] y, int64[1,2] at"),  # the choice is the answer
        ("y, at = TopK (doubled, two)", "float[1,2] y"),  # and here its values
        ("best, at = TopK (table, two) rows = Cast <to = 1> (at) sums = ReduceSum <keepdims = 0> (rows)"
         " y = Mul (doubled, sums)", "float[1,4] y"),  # of constants
        ("whole = Cast <to = 7> (doubled) best, at = TopK (whole, two) y = Cast <to = 1> (at)", "float[1,2] y"),
    ],
)  # fmt: skip
def test_what_is_no_choice_by_computed_scores_is_left(body: str, outputs: str) -> None:
    graph = parse(body, outputs)
    assert hold_choices(graph) is graph


def parse(body: str, outputs: str) -> Graph:
    """A graph of ``image float[1,4]``; its double is ``doubled``, and ``table`` is ``[[0, 1, 2], [3, 4, 5], …]``."""
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[1,4] image) => (' + outputs + ") "
        "{ doubled = Add (image, image) " + body + " }"
    )
    for name, numbers in (("table", np.arange(12, dtype=np.float32).reshape(4, 3)), ("two", np.asarray([2]))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(numbers, name))
    graph = Graph(ir.from_proto(onnx.shape_inference.infer_shapes(proto)))
    for number, node in enumerate(graph.model.graph):
        node.name = f"node{number}"
    return graph


def test_graphs_without_a_choice_are_not_run_or_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    for graph in (make_graph("vit"), make_whole_graph()):
        with monkeypatch.context() as patch:
            patch.setattr(SegmentRunner, "run_named", None)
            held = hold_graph(graph, IMAGES)
        assert held.graph is graph
        assert held.choices == [{}] * len(IMAGES)


def test_noise_is_the_mean_over_outputs_and_scores(
    planned: tuple[Graph, QuantizationPlan],
) -> None:
    base, plan = planned
    held, sites = hold_graph(base, IMAGES), list(plan.sites)
    assert held.outputs == [SCORES, "logits", "boxes"]
    found = measure_noise(held, plan, sites, run_held(held))
    noise, power = np.zeros(3), np.zeros(3)
    for image in IMAGES:
        chosen = choose(base, image)
        twin, wanted = (answer(hold_choices(g), image, chosen) for g in (apply_plan(base, plan), base))
        noise += [np.square(twin[name] - wanted[name]).sum() for name in held.outputs]
        power += [np.square(wanted[name]).sum() for name in held.outputs]
    assert found == pytest.approx(float((noise / power).mean()), rel=1e-3)
    free = dataclasses.replace(held, graph=base, choices=[{}] * len(IMAGES))
    assert measure_noise(free, plan, sites, run_held(free)) > 5 * found


def test_parts_and_whole_hold_the_same_choice(planned: tuple[Graph, QuantizationPlan]) -> None:
    base, plan = planned
    sites = list(plan.sites)
    whole, parts = (by(base, plan, sites, IMAGES) for by in (measure_sites, carried_noise.measure_parts))
    assert set(whole) == set(parts) == set(sites)
    for name in ("head/memory", "head/classes", "head/logits", "head/corners"):
        assert to_decibels(parts[name]) == pytest.approx(to_decibels(whole[name]), abs=0.05)
    assert to_decibels(whole["head/classes"]) < 60  # the scores are judged: nothing else would hear this site


@pytest.mark.parametrize("large", [False, True], ids=["whole", "parts"])
def test_search_reaches_what_swapped_rows_would_hide(
    planned: tuple[Graph, QuantizationPlan], large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, plan = planned
    if large:
        monkeypatch.setattr(carried_noise, "_LARGE_WORK", 0)
    damage = rank_sites(base, plan, IMAGES)
    assert min(damage.values()) > 25
    groups = rank_groups(base, plan, IMAGES)
    assert groups
    assert min(groups.values()) > 20
    held = hold_graph(base, IMAGES)
    every = to_decibels(measure_noise(held, plan, list(plan.sites), run_held(held)))
    assert choose_float(base, plan, IMAGES, damage, sqnr_db=every - 1, share=1.0, pins={}) == ()
    chosen = choose_float(base, plan, IMAGES, damage, sqnr_db=every + 2, share=1.0, pins={})
    assert 0 < len(chosen) < len(plan.sites) / 2


def test_indices_are_the_ones_that_the_graph_reads() -> None:
    (choice,) = find_choices(make_detector_graph())
    assert find_indices(choice).name == CHOSEN
