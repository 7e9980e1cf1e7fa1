"""Whole models over a set of images: figures against labels, against the float model, and of the float model itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from edgevit.core.answer import Answer
from edgevit.core.engine import TensorSpec
from edgevit.core.errors import CheckpointError, CompileError, MissingPackageError
from edgevit.core.report.report import Accuracy
from edgevit.core.task import Task
from edgevit.measure.answers import measure_answers
from edgevit.measure.tasks.answer_meter import AnswerMeter
from edgevit.measure.tasks.pose import PoseMeter, join_poses
from edgevit.pixels.answered_set import read_answered
from edgevit.pixels.images import ImageSet
from edgevit.pixels.preprocess import Preprocess
from edgevit.pixels.truths import PoseTruth
from edgevit.runtime.tasks.answer_image import answer_image
from edgevit.runtime.tasks.answers import Poses

PREPROCESS = Preprocess(8, 8, "squash", 8, 8, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
WARP = Preprocess(16, 16, "warp", 16, 16, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), antialias=False)
DEPTH = Answer("depth", ("depth",), metric=True)
DEPTH_SPECS = [TensorSpec("depth", ("batch", 8, 8), "float32")]
CLASSES = Answer("class_maps", ("maps",))
CLASS_SPECS = [TensorSpec("maps", ("batch", 3, 8, 8), "float32")]
BOXES = Answer("boxes", ("logits", "boxes"))
BOX_SPECS = [TensorSpec("logits", ("batch", 4, 3), "float32"), TensorSpec("boxes", ("batch", 4, 4), "float32")]
HEATMAPS = Answer("heatmaps", ("heatmaps",))
HEATMAP_SPECS = [TensorSpec("heatmaps", ("batch", 17, 8, 8), "float32")]


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Four grey images of 16 rows and 32 columns, whose left half is class 0 and 2 m away, and the right 1 and 4 m."""
    for name in ("images", "maps"):
        (tmp_path / name).mkdir()
    for i in range(4):
        Image.new("RGB", (32, 16), (i, i, i)).save(tmp_path / "images" / f"{i}.png")
        halves = np.repeat(np.array([[0, 1]], np.uint8), 16, axis=0).repeat(16, axis=1)
        Image.fromarray(halves).save(tmp_path / "maps" / f"{i}.png")
    return tmp_path


def give(*values: npt.NDArray[Any]) -> Any:
    """An engine that gives the same to every image."""
    return lambda pixels: tuple(np.stack([value.astype(np.float32)] * len(pixels)) for value in values)


def measure(images: ImageSet, answer: Answer, specs: Any, run: Any, reference: Any, **options: Any) -> Accuracy:
    preprocess = options.pop("preprocess", PREPROCESS)
    return measure_answers(
        run, images, preprocess, Task(answer.task), specs, reference=reference, answer=answer, **options
    )


def halve(left: float, right: float) -> npt.NDArray[Any]:
    return np.repeat(np.array([[left, right]], np.float32), 8, axis=0).repeat(4, axis=1)


def vote(*classes: int) -> npt.NDArray[Any]:
    """Maps of three classes whose columns are of these."""
    return np.eye(3, dtype=np.float32)[np.repeat(classes, 8 // len(classes))].T[:, None].repeat(8, axis=1)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_depth_is_judged_by_distances_and_by_the_float_model(maps: Path, batch_size: int) -> None:
    (maps / "maps.toml").write_text("scale = 2\nfarthest = 80\n")
    for i in range(4):
        values = np.repeat(np.array([[1, 2]], np.uint8), 16, axis=0).repeat(16, axis=1)
        values[:, 8:24] = 0  # where the two halves meet, which resizing blurs
        Image.fromarray(values).save(maps / "maps" / f"{i}.png")
    images = read_answered(maps, "depth")
    found = measure(images, DEPTH, DEPTH_SPECS, give(halve(2.2, 4.4)), give(halve(2, 4)), batch_size=batch_size)
    figures = found.task_figures
    assert (found.images, found.labelled, found.task, found.top1, found.agreement) == (4, True, "depth", None, None)
    assert figures["abs_rel"] == pytest.approx(0.1, abs=1e-5)
    assert figures["reference_abs_rel"] == pytest.approx(0, abs=1e-5)
    assert figures["delta1_percent"] == 100
    assert figures["kept_abs_rel"] == pytest.approx(0.1, abs=1e-4)
    assert found.kept == ("kept_delta1_percent", pytest.approx(100))
    assert found.level_sqnr_db["depth"] == pytest.approx(20, abs=1e-4)


def test_classes_are_judged_by_maps_and_by_the_float_model(maps: Path) -> None:
    found = measure(
        read_answered(maps, "segment", classes=3), CLASSES, CLASS_SPECS, give(vote(0, 0, 1, 2)), give(vote(0, 1))
    )
    figures = found.task_figures
    assert figures["reference_miou_percent"] == figures["reference_pixel_accuracy_percent"] == 100
    assert figures["pixel_accuracy_percent"] == figures["kept_pixels_percent"] == 75
    assert figures["miou_percent"] == pytest.approx(100 * (1 + 0.5 + 0) / 3)
    assert found.kept == ("kept_pixels_percent", 75)
    assert found.no_agreement == ""


def test_without_labels_only_the_float_model_judges_and_without_it_only_labels(maps: Path) -> None:
    engine, float_model = give(vote(0, 0, 1, 2)), give(vote(0, 1))
    plain = measure(read_answered(maps / "images", "segment"), CLASSES, CLASS_SPECS, engine, float_model)
    assert set(plain.task_figures) == {"kept_pixels_percent", "kept_miou_percent"}
    assert (plain.labelled, plain.level_sqnr_db["maps"]) == (False, pytest.approx(plain.sqnr_db))
    alone = measure(read_answered(maps, "segment"), CLASSES, CLASS_SPECS, engine, None)
    assert set(alone.task_figures) == {"pixel_accuracy_percent", "miou_percent"}
    assert (alone.labelled, alone.level_sqnr_db, alone.kept) == (True, {}, None)


def test_stored_answers_of_the_float_model_are_taken_in_order(maps: Path) -> None:
    images = read_answered(maps, "segment")
    stored = (np.stack([vote(0, 1), vote(0, 1), vote(1, 0), vote(1, 0)]),)
    found = measure(images, CLASSES, CLASS_SPECS, give(vote(0, 1)), stored, batch_size=3)
    assert found.task_figures["kept_pixels_percent"] == 50
    assert found.task_figures["reference_pixel_accuracy_percent"] == 50
    assert found.task_figures["pixel_accuracy_percent"] == 100


def test_broken_outputs_are_refused_by_the_files_name(maps: Path) -> None:
    images = read_answered(maps, "segment")
    broken, whole = give(np.full((3, 8, 8), np.nan)), give(vote(0, 1))
    for reference in (whole, None):
        with pytest.raises(CompileError, match=r"not finite for 1 image:\n  0.png"):
            measure(images, CLASSES, CLASS_SPECS, broken, reference)
    with pytest.raises(CheckpointError, match="the float model's maps"):
        measure(images, CLASSES, CLASS_SPECS, whole, broken)
    with pytest.raises(CompileError, match="shape"):
        measure(images, CLASSES, CLASS_SPECS, give(vote(0, 1)[:2]), None)


LOGITS = np.array([[9, 0, 0], [0, 9, 0], [0.5, 0, 0.4], [0, 0, 9]])  # sure, sure, unsure, none
PLACES = np.array([[0.25, 0.5, 0.5, 0.5], [0.75, 0.5, 0.25, 0.5], [0.5, 0.5, 0.9, 0.9], [0.5, 0.5, 1, 1]])


def write_boxes(folder: Path) -> Path:
    boxes = [[0, 4, 16, 8], [20, 4, 8, 8]]
    data = {
        "images": [{"id": i, "file_name": f"images/{i}.png"} for i in range(4)],
        "annotations": [
            {"id": 2 * i + kind, "image_id": i, "category_id": kind, "bbox": boxes[kind]}
            for i in range(4)
            for kind in (0, 1)
        ],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
    }
    (folder / "boxes.json").write_text(json.dumps(data))
    return folder / "boxes.json"


def test_boxes_are_judged_by_a_coco_file_and_by_the_float_model(maps: Path) -> None:
    images = read_answered(write_boxes(maps), "detect", labels=["cat", "dog"]).check()
    moved = PLACES + np.array([[0, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    found = measure(images, BOXES, BOX_SPECS, give(LOGITS, moved), give(LOGITS, PLACES))
    figures = found.task_figures
    assert figures["reference_ap_percent"] == figures["reference_ap50_percent"] == 100
    assert figures["ap_percent"] == figures["kept_ap_percent"] == 50  # one of two classes is found
    assert found.kept == ("kept_ap_percent", 50)


def test_a_float_model_that_is_sure_of_nothing_cannot_be_kept_to(maps: Path) -> None:
    images = read_answered(maps / "images", "detect")
    unsure = give(np.zeros((4, 3)), PLACES)
    found = measure(images, BOXES, BOX_SPECS, unsure, unsure)
    assert (found.kept, found.task_figures) == (None, {})
    assert "the float model finds nothing with a score above 0.5: only the SQNR" in found.no_agreement


def test_a_missing_package_is_said_before_anything_runs(maps: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    images = read_answered(maps / "images", "detect")
    with pytest.raises(MissingPackageError, match="AP of boxes"):
        AnswerMeter(BOXES, BOX_SPECS, images, PREPROCESS, compared=True)


def point(*cells: int) -> npt.NDArray[Any]:
    """Heatmaps of 17 keypoints that all lie in the cell of a person; one entry a person."""
    maps = np.zeros((len(cells), 17, 8, 8), np.float32)
    for person, cell in enumerate(cells):
        maps[person, :, cell // 8, cell % 8] = 0.9
    return maps


def test_keypoints_are_judged_person_by_person_and_ranked_image_by_image(maps: Path) -> None:
    boxes = [(2.0, 1.0, 14.0, 15.0), (18.0, 1.0, 30.0, 15.0)]
    cells = (27, 36)
    annotations: list[Any] = []
    for image in range(2):
        for person, box in enumerate(boxes):
            poses: Any = answer_image(
                HEATMAPS,
                WARP,
                {"heatmaps": point(cells[person])},
                (16, 32),
                boxes=np.array([box], np.float32),
            )
            keypoints = np.column_stack([poses.keypoints[0, :, :2], np.full(17, 2)])
            annotations.append(
                {
                    **{"id": len(annotations), "image_id": image, "category_id": 1, "area": 168},
                    **{"bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]]},
                    "keypoints": keypoints.astype(float).ravel().tolist(),
                }
            )
    files = [{"id": i, "file_name": f"images/{i}.png"} for i in range(2)]
    path = maps / "people.json"
    path.write_text(
        json.dumps({"images": files, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]})
    )
    images = read_answered(path, "pose", classes=17).check()
    assert len(images) == 4  # people
    right = (np.concatenate([point(*cells)] * 2),)

    def answer_in_turn(stored: npt.NDArray[Any]) -> Any:
        rows = iter(stored)
        return lambda pixels: (np.stack([next(rows) for _ in pixels]),)

    found = measure(images, HEATMAPS, HEATMAP_SPECS, answer_in_turn(right[0]), right, preprocess=WARP, batch_size=3)
    assert found.task_figures == {
        **dict.fromkeys(("kept_pck_percent", "pck_percent", "reference_pck_percent"), 100),
        **{"oks_ap_percent": pytest.approx(100), "oks_ap50_percent": pytest.approx(100)},
        **{"reference_oks_ap_percent": pytest.approx(100), "reference_oks_ap50_percent": pytest.approx(100)},
        "kept_distance_px": 0,
    }
    astray = answer_in_turn(np.concatenate([point(cells[0], 0)] * 2))  # the second person's are elsewhere
    figures = measure(images, HEATMAPS, HEATMAP_SPECS, astray, right, preprocess=WARP).task_figures
    assert figures["pck_percent"] == figures["kept_pck_percent"] == 50
    assert 40 < figures["oks_ap_percent"] < 60
    assert figures["kept_distance_px"] > 3


def test_a_person_in_anothers_place_is_found_where_both_are_of_one_image() -> None:
    """As COCO has it: people are matched within an image, whichever box an answer was asked for."""

    def place(x: float) -> npt.NDArray[Any]:
        keypoints = np.full((1, 17, 3), 5, np.float32)
        keypoints[..., 0], keypoints[..., 2] = x, 2
        return keypoints

    boxes = [np.array([[x, 0, x + 10, 10]], np.float32) for x in (0, 50)]
    label, scores = (np.array([100.0]), np.array([False])), np.ones(1, np.float32)
    truths = [PoseTruth(place(5), boxes[0], *label), PoseTruth(place(55), boxes[1], *label)]
    swapped = [Poses(place(55), boxes[0], scores), Poses(place(5), boxes[1], scores)]
    together, apart = PoseMeter(17), PoseMeter(17)
    together.update(join_poses(swapped), join_poses(truths))
    for pose, truth in zip(swapped, truths, strict=True):
        apart.update(pose, truth)
    assert together.result()["oks_ap_percent"] == pytest.approx(100)
    assert together.result()["pck_percent"] == 0
    assert apart.result()["oks_ap_percent"] == 0


@pytest.mark.parametrize(
    ("answer", "specs", "count"),
    [
        (DEPTH, DEPTH_SPECS, None),
        (CLASSES, CLASS_SPECS, 3),
        (BOXES, BOX_SPECS, 2),
        (Answer("boxes", ("logits", "boxes"), scores="sigmoid"), BOX_SPECS, 3),
        (HEATMAPS, HEATMAP_SPECS, 17),
        (
            Answer("mask_queries", ("q", "m"), mask_size=(8, 8)),
            [TensorSpec("q", (1, 5, 4), "float32"), TensorSpec("m", (1, 5, 2, 2), "float32")],
            3,
        ),
    ],
)
def test_classes_are_counted_from_the_outputs(answer: Answer, specs: Any, count: int | None) -> None:
    assert answer.count_classes(specs) == count


def test_of_a_model_of_several_squares_the_middle_one_is_judged(maps: Path) -> None:
    """The image is twice as wide as high: a square in its middle has a quarter of the columns on either side."""
    answer = Answer("mask_queries", ("q", "m"), mask_size=(8, 8), tiles=True)
    specs = [TensorSpec("q", ("batch", 2, 3), "float32"), TensorSpec("m", ("batch", 2, 8, 8), "float32")]
    side = np.where(np.arange(8) < 4, 9.0, -9.0)[None].repeat(8, axis=0)
    run = give(np.array([[9.0, 0, 0], [0, 9.0, 0]]), np.stack([side, -side]))
    shortest = Preprocess(8, 8, "shortest", 8, 8, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    found = measure(read_answered(maps, "segment"), answer, specs, run, run, preprocess=shortest)
    assert found.task_figures["pixel_accuracy_percent"] == found.task_figures["kept_pixels_percent"] == 100
