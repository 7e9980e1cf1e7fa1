"""AP of boxes, against pycocotools' own way from file to figure."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edgevit.core.errors import MissingPackageError
from edgevit.measure.tasks.detection import DetectionAgreement, DetectionMeter
from edgevit.pixels.truths import BoxTruth
from edgevit.runtime.tasks.answers import Detections


def make_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.uniform(0, 80, (count, 2))
    return np.hstack([corner, corner + rng.uniform(4, 40, (count, 2))]).astype(np.float32)


def find(boxes, classes, scores) -> Detections:
    order = np.argsort(-np.asarray(scores), kind="stable")
    return Detections(
        np.asarray(boxes, np.float32).reshape(-1, 4)[order],
        np.asarray(scores, np.float32)[order],
        np.asarray(classes, np.int32)[order],
    )


def label(boxes, classes, crowd=None) -> BoxTruth:
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).astype(np.float64)
    return BoxTruth(boxes, np.asarray(classes, np.int32), areas, np.asarray(crowd or [False] * len(boxes), bool))


@pytest.fixture(scope="module")
def images() -> list[tuple[Detections, BoxTruth]]:
    """Eight images with found boxes near labelled ones, false ones, missed ones and crowds; one without labels."""
    rng, made = np.random.default_rng(1), []
    for image in range(8):
        count = 0 if image == 5 else 6
        truth = label(make_boxes(rng, count), rng.integers(0, 4, count), [i == 0 for i in range(count)])
        near = truth.boxes + rng.normal(0, 2, truth.boxes.shape).astype(np.float32)
        boxes = np.vstack([near[: count - 1 if count else 0], make_boxes(rng, 5)])
        classes = np.concatenate([truth.classes[: count - 1 if count else 0], rng.integers(0, 5, 5)])
        made.append((find(boxes, classes, rng.uniform(0, 1, len(boxes))), truth))
    return made


def to_xywh(box) -> list[float]:
    left, top, right, bottom = (float(side) for side in box)
    return [left, top, right - left, bottom - top]


def test_ap_is_what_pycocotools_says_of_the_same_files(images, tmp_path: Path) -> None:
    annotations: list[Any] = []
    results: list[Any] = []
    for image, (found, truth) in enumerate(images):
        for box, kind, area, crowd in zip(truth.boxes, truth.classes, truth.areas, truth.crowd, strict=True):
            annotations.append(
                {
                    **{"id": len(annotations) + 1, "image_id": image, "category_id": int(kind), "area": float(area)},
                    **{"iscrowd": int(crowd), "bbox": to_xywh(box)},
                }
            )
        for box, kind, score in zip(found.boxes, found.classes, found.scores, strict=True):
            results.append({"image_id": image, "category_id": int(kind), "bbox": to_xywh(box), "score": float(score)})
    (tmp_path / "truth.json").write_text(
        json.dumps(
            {
                "images": [{"id": i, "width": 128, "height": 128, "file_name": f"{i}.jpg"} for i in range(8)],
                "annotations": annotations,
                "categories": [{"id": i, "name": str(i)} for i in range(5)],
            }
        )
    )
    (tmp_path / "found.json").write_text(json.dumps(results))
    truth = COCO(str(tmp_path / "truth.json"))
    judge = COCOeval(truth, truth.loadRes(str(tmp_path / "found.json")), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    meter = DetectionMeter()
    for found, wanted in images:
        meter.update(found, wanted)
    assert meter.result() == pytest.approx({"ap_percent": 100 * judge.stats[0], "ap50_percent": 100 * judge.stats[1]})
    assert 5 < meter.result()["ap_percent"] < 95


def test_ap_of_a_case_that_one_can_count() -> None:
    meter = DetectionMeter()
    # One of two boxes is found; a wrong one of a lower score takes nothing from the precision up to that recall.
    meter.update(
        find([[0, 0, 10, 10], [50, 50, 60, 60]], [0, 0], [0.9, 0.8]), label([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 0])
    )
    assert meter.result()["ap_percent"] == pytest.approx(100 * 51 / 101)  # of 101 recalls, those up to 0.50


def test_agreement_takes_the_float_models_sure_boxes_for_the_truth(images) -> None:
    meter, wanted = DetectionAgreement(), DetectionMeter()
    for found, _ in images:
        meter.update(found, found)
        sure = found.scores > 0.5
        wanted.update(found, label(found.boxes[sure], found.classes[sure]))
    figures = meter.result()
    assert figures == {"kept_ap_percent": 100, "kept_ap50_percent": 100}  # what is unsure is no false alarm
    shifted = DetectionAgreement()
    for found, _ in images:
        shifted.update(Detections(found.boxes + 3, found.scores, found.classes), found)
    assert shifted.result()["kept_ap_percent"] < 80


def test_a_model_that_detects_nothing_keeps_nothing(images) -> None:
    meter = DetectionAgreement()
    for found, _ in images:
        meter.update(find([], [], []), found)
    assert meter.result() == {"kept_ap_percent": 0, "kept_ap50_percent": 0}


def test_where_the_float_model_is_sure_of_nothing_there_is_no_figure() -> None:
    meter = DetectionAgreement()
    unsure = find([[0, 0, 10, 10]], [0], [0.4])
    meter.update(unsure, unsure)
    assert (meter.images, meter.result()) == (1, {})


def test_without_pycocotools_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(MissingPackageError, match="AP of boxes needs pycocotools") as caught:
        DetectionMeter()
    assert "[coco]" in caught.value.hint
