"""compute_average_precision: COCO's AP of boxes and of keypoints, as COCO's own pycocotools counts it.

Papers report what that package gives, down to how it breaks ties and interpolates: a figure of another count could not
be held against theirs.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from edgevit.core.packages import require_package

MOST_BOXES = 100
"""Of an image that count, the highest scores; COCO's own number."""
_MOST_POSES = 20

Annotation = dict[str, Any]


def require_coco(purpose: str) -> tuple[Any, Any]:
    """The modules ``coco`` and ``cocoeval`` of pycocotools.

    Args:
        purpose: What needs them, for the message: ``AP``.

    Raises:
        MissingPackageError: It cannot be imported.
    """
    names = ("pycocotools.coco", "pycocotools.cocoeval")
    files, judges = (require_package(name, purpose, extra="coco") for name in names)
    return files, judges


def compute_average_precision(
    truths: Sequence[Annotation],
    found: Sequence[Annotation],
    images: int,
    kind: Literal["bbox", "keypoints"],
    *,
    sigmas: Sequence[float] | None = None,
) -> tuple[float, float] | None:
    """AP over IoUs (of keypoints, OKS) from 0.50 to 0.95, and AP at 0.50.

    Args:
        truths: As in a COCO file, with ``image_id`` from 0, ``category_id``, ``bbox``, ``area``, ``iscrowd`` and for
            keypoints ``keypoints`` and ``num_keypoints``; without ``id``.
        found: The same with ``score``; of keypoints only ``keypoints``, and of boxes only ``bbox`` is looked at.
        images: How many there are.
        kind: What is compared.
        sigmas: Of keypoints, how far annotators are apart at each; COCO's 17 by default.

    Returns:
        Two fractions; ``None`` where no truth counts.

    Raises:
        MissingPackageError: pycocotools is not installed.
    """
    files, judges = require_coco("AP")
    if not truths:
        return None
    categories = sorted({truth["category_id"] for truth in truths})
    names = [{"id": category, "name": str(category)} for category in categories]
    listed = [{"id": image} for image in range(images)]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        expected = files.COCO()
        # From 1: an annotation of id 0 counts there as none.
        numbered = [{**truth, "id": number} for number, truth in enumerate(truths, start=1)]
        expected.dataset = {"images": listed, "annotations": numbered, "categories": names, "info": {}}
        expected.createIndex()
        answers = files.COCO()
        given = [
            {"area": _measure_area(answer), "iscrowd": 0, **answer, "id": number}
            for number, answer in enumerate(found, start=1)
        ]
        answers.dataset = {"images": listed, "annotations": given, "categories": names, "info": {}}
        answers.createIndex()
        judge = judges.COCOeval(expected, answers, kind)
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.params.maxDets = [MOST_BOXES if kind == "bbox" else _MOST_POSES]
        if sigmas is not None:
            judge.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"]  # (IoUs, recalls, classes, areas, numbers of boxes), −1 where no truth counts
    if not (precision > -1).any():
        return None
    return float(precision[precision > -1].mean()), float(precision[0][precision[0] > -1].mean())


def _measure_area(answer: Annotation) -> float:
    """Of the box, or of the keypoints' extent, as pycocotools' own reader has it."""
    if "bbox" in answer:
        return float(answer["bbox"][2] * answer["bbox"][3])
    x, y = answer["keypoints"][0::3], answer["keypoints"][1::3]
    return float((max(x) - min(x)) * (max(y) - min(y)))
