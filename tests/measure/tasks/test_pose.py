"""Figures of keypoints, against counts by hand and pycocotools' own way from file to figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edgevit.measure.tasks.pose import PoseAgreement, PoseMeter
from edgevit.pixels.truths import PoseTruth
from edgevit.runtime.tasks.answers import Poses

BOX = np.array([[0, 0, 100, 40]], np.float32)


def answer(keypoints, boxes=BOX, scores=None) -> Poses:
    keypoints = np.asarray(keypoints, np.float32)
    return Poses(keypoints, boxes, keypoints[..., 2].mean(axis=1) if scores is None else np.asarray(scores, np.float32))


def label(keypoints, boxes=BOX, crowd=False) -> PoseTruth:
    keypoints = np.asarray(keypoints, np.float32)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).astype(np.float64)
    return PoseTruth(keypoints, boxes, areas, np.full(len(boxes), crowd))


def test_pck_counts_labelled_keypoints_within_a_twentieth_of_the_longer_side() -> None:
    meter = PoseMeter(4)
    wanted = label([[[10, 10, 2], [20, 20, 1], [30, 30, 2], [0, 0, 0]]])
    meter.update(answer([[[14, 13, 0.9], [20, 25.1, 0.9], [30, 25, 0.9], [90, 0, 0.9]]]), wanted)
    assert meter.result() == {"pck_percent": pytest.approx(200 / 3)}
    meter.update(answer([[[99, 99, 0.9]] * 4]), label(wanted.keypoints, crowd=True))  # a crowd does not count
    assert meter.result() == {"pck_percent": pytest.approx(200 / 3)}


def test_oks_ap_is_what_pycocotools_says_of_the_same_files(tmp_path: Path) -> None:
    rng, meter = np.random.default_rng(0), PoseMeter(17)
    annotations: list[Any] = []
    results: list[Any] = []
    for image in range(6):
        boxes = np.array([[0, 0, 100, 80], [50, 20, 190, 120], [5, 5, 60, 90]], np.float32)
        places = boxes[:, None, :2] + rng.uniform(0, 1, (3, 17, 2)) * (boxes[:, None, 2:] - boxes[:, None, :2])
        wanted = np.dstack([places, rng.choice([0, 1, 2], (3, 17))]).astype(np.float32)
        if image == 2:
            wanted[1, :, 2] = 0  # a person without keypoints
        found = wanted + rng.normal(0, [[[6, 6, 0]]], (3, 17, 3)).astype(np.float32)
        found[..., 2] = rng.uniform(0, 1, (3, 17))
        poses, truth = answer(found, boxes), label(wanted, boxes)
        meter.update(poses, truth)
        for person in range(3):
            left, top, right, bottom = boxes[person].tolist()
            annotations.append(
                {
                    **{"id": len(annotations) + 1, "image_id": image, "category_id": 1, "iscrowd": 0},
                    **{"area": truth.areas[person], "bbox": [left, top, right - left, bottom - top]},
                    "num_keypoints": int((wanted[person, :, 2] > 0).sum()),
                    "keypoints": wanted[person].astype(float).ravel().tolist(),
                }
            )
            results.append(
                {
                    **{"image_id": image, "category_id": 1, "score": float(poses.scores[person])},
                    "keypoints": found[person].astype(float).ravel().tolist(),
                }
            )
    (tmp_path / "truth.json").write_text(
        json.dumps(
            {
                "images": [{"id": i} for i in range(6)],
                "annotations": annotations,
                "categories": [{"id": 1, "name": "person"}],
            }
        )
    )
    (tmp_path / "found.json").write_text(json.dumps(results))
    truth = COCO(str(tmp_path / "truth.json"))
    judge = COCOeval(truth, truth.loadRes(str(tmp_path / "found.json")), "keypoints")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    figures = meter.result()
    assert figures["oks_ap_percent"] == pytest.approx(100 * judge.stats[0])
    assert figures["oks_ap50_percent"] == pytest.approx(100 * judge.stats[1])
    assert 5 < figures["oks_ap_percent"] < 95


def test_agreement_counts_keypoints_that_the_float_model_sees() -> None:
    meter = PoseAgreement()
    theirs = answer([[[10, 10, 0.9], [20, 20, 0.3], [30, 30, 0.1]]])
    meter.update(answer([[[13, 14, 0.2], [20, 30, 0.9], [90, 0, 0.9]]]), theirs)
    assert meter.result() == {"kept_pck_percent": 50, "kept_distance_px": pytest.approx(7.5)}


def test_no_seen_keypoint_has_no_figure_and_other_persons_are_refused() -> None:
    meter = PoseAgreement()
    blind = answer([[[10, 10, 0.1]]])
    meter.update(blind, blind)
    assert (meter.images, meter.result()) == (1, {})
    with pytest.raises(ValueError, match=r"\(1, 1, 3\) for some of \(1, 2, 3\)"):
        meter.update(blind, answer([[[1, 1, 1], [2, 2, 1]]]))


def test_no_persons_are_counted_as_none() -> None:
    none = Poses(np.zeros((0, 17, 3), np.float32), np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    meter = PoseAgreement()
    meter.update(none, none)
    assert meter.result() == {}
