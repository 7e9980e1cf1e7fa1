"""A bundle of a whole model answers in the image's own pixels, by every way of asking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.core.errors import BundleError, DataError
from edgevit.core.task import ANSWERED_TASKS
from edgevit.runtime import Predictor, open_bundle
from edgevit.runtime.tasks.answer_image import answer_image
from tests.support.dense_bundle import ANSWERS, LABELS, OUTPUTS, QUERIES, SQUASH, make_dense_bundle
from tests.support.photos import make_photo


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dense")
    return {task: make_dense_bundle(folder / task, folder / f"work-{task}", task).path for task in ANSWERED_TASKS}


PHOTOS = [make_photo(61, 93), make_photo(130, 70, seed=1)]


def take_arrays(answer: Any) -> dict[str, np.ndarray]:
    return {name: value for name, value in vars(answer).items() if isinstance(value, np.ndarray)}


def assert_same(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    for name, values in take_arrays(wanted).items():
        np.testing.assert_array_equal(getattr(found, name), values)


@pytest.mark.parametrize("task", ANSWERED_TASKS)
def test_every_way_of_asking_gives_the_same(bundles: dict[str, Path], task: str) -> None:
    with open_bundle(bundles[task]) as opened:
        ask = getattr(opened, task)
        wanted = [ask(photo) for photo in PHOTOS]
        for found in (
            getattr(opened, f"{task}_batch")(PHOTOS),
            [opened.submit(photo).result() for photo in PHOTOS],
            list(opened.map(PHOTOS)),
            [ask(np.asarray(photo)[..., ::-1], bgr=True) for photo in PHOTOS],
        ):
            for one, other in zip(found, wanted, strict=True):
                assert_same(one, other)
        assert getattr(opened, f"{task}_batch")([]) == []


@pytest.mark.parametrize("task", ["depth", "segment", "detect"])
def test_answer_is_what_the_outputs_say(bundles: dict[str, Path], task: str) -> None:
    with open_bundle(bundles[task]) as opened:
        outputs = opened.outputs(PHOTOS[0])
        assert {name: values.shape for name, values in outputs.items()} == OUTPUTS[task]
        wanted = answer_image(
            ANSWERS[task], SQUASH, {name: values[None] for name, values in outputs.items()}, (61, 93), labels=LABELS
        )
        assert_same(getattr(opened, task)(PHOTOS[0]), wanted)


def test_answers_have_the_images_own_size(bundles: dict[str, Path]) -> None:
    with open_bundle(bundles["depth"]) as opened:
        found = opened.depth(PHOTOS[1])
        assert (found.depth.shape, found.depth.dtype, found.metric) == ((130, 70), np.float32, True)
    with open_bundle(bundles["segment"]) as opened:
        classes = opened.segment(PHOTOS[1])
        assert (classes.classes.shape, classes.classes.dtype, classes.labels) == ((130, 70), np.int32, LABELS)


def test_detect_when_the_threshold_is_given_keeps_what_is_above_it(bundles: dict[str, Path]) -> None:
    with open_bundle(bundles["detect"]) as opened:
        everything = opened.detect(PHOTOS[0], 0.0)
        assert len(everything.scores) == QUERIES
        assert (np.diff(everything.scores) <= 0).all()
        middle = float(everything.scores[2])
        assert len(opened.detect(PHOTOS[0], middle).scores) == 2
        assert len(opened.detect(PHOTOS[0]).scores) == (everything.scores > 0.4).sum()


def test_pose_when_boxes_are_given_answers_each(bundles: dict[str, Path]) -> None:
    boxes = [[2, 3, 40, 50], [10, 10, 90, 60]]
    with open_bundle(bundles["pose"]) as opened:
        both = opened.pose(PHOTOS[0], boxes)
        assert both.keypoints.shape == (2, 5, 3)
        assert both.edges == ANSWERS["pose"].edges
        for person, box in enumerate(boxes):
            alone = opened.pose(PHOTOS[0], [box])
            np.testing.assert_array_equal(alone.keypoints[0], both.keypoints[person])
        assert opened.pose(PHOTOS[0], np.zeros((0, 4))).keypoints.shape == (0, 5, 3)
        whole = opened.pose(PHOTOS[0], [[0, 0, 93, 61]])
        np.testing.assert_array_equal(whole.keypoints, opened.pose(PHOTOS[0]).keypoints)
        first, second = opened.pose_batch(PHOTOS, [boxes, boxes[:1]])
        np.testing.assert_array_equal(first.keypoints, both.keypoints)
        assert len(second.keypoints) == 1


@pytest.mark.parametrize("boxes", [[[1, 2, 3]], "box", [[5, 5, 5, 9]], [[9, 5, 5, 9]], [[0, 0, float("nan"), 4]]])
def test_pose_when_a_box_is_none_is_refused(bundles: dict[str, Path], boxes: Any) -> None:
    with open_bundle(bundles["pose"]) as opened, pytest.raises(DataError, match="box"):
        opened.pose(PHOTOS[0], boxes)


def test_pose_batch_when_boxes_are_of_fewer_images_is_refused(bundles: dict[str, Path]) -> None:
    with open_bundle(bundles["pose"]) as opened, pytest.raises(DataError, match="boxes of 1 images"):
        opened.pose_batch(PHOTOS, [[[0, 0, 5, 5]]])


def test_another_tasks_method_is_refused_and_names_the_bundles_own(bundles: dict[str, Path]) -> None:
    with open_bundle(bundles["depth"]) as opened:
        for ask in (opened.segment, opened.detect, opened.pose, opened.classify, opened.embed, opened.features):
            with pytest.raises(BundleError, match="is for the task depth") as refused:
                ask(PHOTOS[0])
            assert ".depth(image)" in str(refused.value.hint)


def test_one_image_in_place_of_a_list_is_refused(bundles: dict[str, Path]) -> None:
    with open_bundle(bundles["depth"]) as opened, pytest.raises(DataError, match="not a list of images"):
        opened.depth_batch(np.asarray(PHOTOS[0]))


def test_errors_of_a_list_name_the_image(bundles: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    opened: Predictor
    with open_bundle(bundles["segment"]) as opened:
        with pytest.raises(DataError, match=r"broken\.jpg"):
            opened.segment_batch([PHOTOS[0], tmp_path / "broken.jpg"])
        with pytest.raises(DataError, match="image 1 of the list"):
            opened.segment_batch([PHOTOS[0], b"no image"])
