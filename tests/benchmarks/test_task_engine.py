"""An engine of the benchmark answers with its own choice, tells it, and takes another's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.task_engine import TaskEngine, share_of_same
from tests.support.small_graphs import find_node, run_graph
from tests.support.small_models import VIT, make_images
from tests.support.whole_graphs import make_detector_graph, make_whole_graph

IMAGE = make_images(VIT, 1).numpy()[:1]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engine") / "m.onnx"
    make_detector_graph().save(path)
    return path


def test_engine_tells_what_it_chose_and_takes_it_back(path: Path) -> None:
    graph = make_detector_graph()
    scores, logits, boxes = run_graph(
        graph, [IMAGE], [find_node(graph, "head/scores").outputs[0].name or "", "logits", "boxes"]
    )
    own, nothing = TaskEngine(path).run(IMAGE)
    assert not nothing
    told, (chosen,) = TaskEngine(path, "told").run(IMAGE)
    np.testing.assert_array_equal(chosen, np.argsort(-scores, axis=1)[:, :9])
    given, _ = TaskEngine(path, "given").run(IMAGE, [chosen])
    for found in (own, told):
        for values, wanted in zip(found, (logits, boxes), strict=True):
            np.testing.assert_allclose(values, wanted, atol=1e-4)
    np.testing.assert_allclose(given[0], logits, atol=1e-4)


def test_given_choice_moves_rows(path: Path) -> None:
    engine = TaskEngine(path, "given")
    _, (chosen,) = TaskEngine(path, "told").run(IMAGE)
    straight, turned = (engine.run(IMAGE, [order])[0][0] for order in (chosen, chosen[:, ::-1]))
    assert np.abs(straight - turned).max() > 0.1
    np.testing.assert_allclose(straight[:, 4], turned[:, 4], atol=1e-5)  # the middle of nine keeps its place


def test_model_that_chooses_nothing_has_nothing_to_tell(tmp_path: Path) -> None:
    make_whole_graph().save(tmp_path / "m.onnx")
    answers, chosen = TaskEngine(tmp_path / "m.onnx", "told").run(IMAGE)
    assert len(answers) == 2
    assert not chosen


def test_share_counts_what_is_the_same_wherever_it_stands() -> None:
    wanted = [[np.asarray([[4, 2, 7, 1]])], [np.asarray([[0, 1, 2, 3]])]]
    found = [[np.asarray([[1, 2, 4, 7]])], [np.asarray([[3, 9, 8, 7]])]]
    assert share_of_same(wanted, wanted) == 100
    assert share_of_same(found, wanted) == 100 * 5 / 8
