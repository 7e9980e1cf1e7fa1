"""read_dense: what a transformers folder of a depth estimator, segmenter, detector or pose estimator says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgevit.checkpoints.labels import read_labels
from edgevit.checkpoints.preprocess_configs import is_size
from edgevit.checkpoints.transformers.dense_preprocess import DensePreprocess, Size, read_dense_preprocess
from edgevit.checkpoints.transformers.description import name_classes
from edgevit.core.answer import Answer, BoxScores, Form
from edgevit.core.errors import CheckpointError
from edgevit.core.task import Task
from edgevit.pixels.preprocess import Preprocess


@dataclass(frozen=True)
class DenseTask:
    """A task, and how an image becomes an input and outputs an answer.

    Attributes:
        task: ``depth``, ``segment``, ``detect`` or ``pose``.
        preprocess: At one fixed size.
        answer: Which outputs are read, and how.
        labels: Names of what is found, if they are stored.
        notes: On what was assumed or is done in another way than in transformers.
    """

    task: Task
    preprocess: Preprocess
    answer: Answer
    labels: tuple[str, ...] | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Row:
    """One of transformers' classes.

    Attributes:
        form: What its outputs are.
        outputs: Their names in transformers.
        processors: Image processors that prepare its images; the first is its own.
    """

    form: Form
    outputs: tuple[str, ...]
    processors: tuple[str, ...]


_QUERIES = ("class_queries_logits", "masks_queries_logits")
DENSE_CLASSES: Mapping[str, _Row] = {
    "DepthAnythingForDepthEstimation": _Row("depth", ("predicted_depth",), ("DPT",)),
    "DPTForDepthEstimation": _Row("depth", ("predicted_depth",), ("DPT",)),
    "DPTForSemanticSegmentation": _Row("class_maps", ("logits",), ("DPT",)),
    "UperNetForSemanticSegmentation": _Row("class_maps", ("logits",), ("Segformer", "Beit", "DPT")),
    "Mask2FormerForUniversalSegmentation": _Row("mask_queries", _QUERIES, ("Mask2Former",)),
    "EomtForUniversalSegmentation": _Row("mask_queries", _QUERIES, ("Eomt",)),
    "RfDetrForObjectDetection": _Row("boxes", ("logits", "pred_boxes"), ("RfDetr",)),
    "OwlViTForObjectDetection": _Row("boxes", ("logits", "pred_boxes"), ("OwlViT",)),
    "Owlv2ForObjectDetection": _Row("boxes", ("logits", "pred_boxes"), ("Owlv2",)),
    "YolosForObjectDetection": _Row("boxes", ("logits", "pred_boxes"), ("Yolos",)),
    "VitPoseForPoseEstimation": _Row("heatmaps", ("heatmaps",), ("VitPose",)),
}
"""By the class that ``config.json`` names."""

_BOXES: Mapping[str, tuple[BoxScores, float]] = {
    "RfDetr": ("sigmoid", 0.5),
    "Yolos": ("softmax", 0.5),
    "Owl": ("best_sigmoid", 0.1),
}
"""By how a detector's name begins: what its scores are, and transformers' threshold."""

_MASK2FORMER_SIZE = (384, 384)
"""What its processor resizes masks to, whatever the image's size was."""


def find_dense_class(config: Mapping[str, Any]) -> str | None:
    """The class of :data:`DENSE_CLASSES` that a ``config.json`` names."""
    return next((name for name in name_classes(config) if name in DENSE_CLASSES), None)


def read_dense(config: Mapping[str, Any], processor: Mapping[str, Any] | None, size: Size | None) -> DenseTask:
    """The task of a transformers folder, as transformers' own processor has it.

    Args:
        config: ``config.json``.
        processor: ``preprocessor_config.json``; ``None`` where there is none.
        size: Height and width of the input, in place of what is stored.

    Raises:
        CheckpointError: The class is none of :data:`DENSE_CLASSES`, or a value or step cannot be reproduced.
    """
    name = find_dense_class(config)
    if name is None:
        named = ", ".join(name_classes(config)) or repr(config.get("model_type"))
        raise CheckpointError(
            f"{named} is no model whose outputs are known here to be depth, classes, boxes or poses",
            f"these are: {', '.join(DENSE_CLASSES)}",
        )
    row = DENSE_CLASSES[name]
    read = read_dense_preprocess(processor, row.processors, _find_model_size(config), size)
    labels, notes = _read_names(config)
    answer = _make_answer(name, row, config, read, size)
    if row.form == "depth" or answer.scores == "best_sigmoid":  # whose labels come with the build
        labels, notes = None, ()
    return DenseTask(Task(answer.task), read.preprocess, answer, labels, (*read.notes, *notes))


def _make_answer(name: str, row: _Row, config: Mapping[str, Any], read: DensePreprocess, size: Size | None) -> Answer:
    if row.form == "depth":
        return Answer(row.form, row.outputs, metric=config.get("depth_estimation_type") == "metric")
    if row.form == "mask_queries":
        mask_size = _MASK2FORMER_SIZE if name.startswith("Mask2Former") else size or read.stored
        return Answer(row.form, row.outputs, mask_size=mask_size, tiles=read.tiles)
    if row.form == "boxes":
        scores, threshold = next((found for start, found in _BOXES.items() if name.startswith(start)))
        return Answer(row.form, row.outputs, scores=scores, threshold=threshold)
    if row.form == "heatmaps":
        return Answer(row.form, row.outputs, edges=_read_edges(config))
    return Answer(row.form, row.outputs)


def _read_names(config: Mapping[str, Any]) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    stored = config.get("id2label")
    return read_labels(stored, len(stored) if isinstance(stored, Mapping | list) else 1, "id2label")


def _read_edges(config: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    """ViTPose's skeleton, which transformers' own configuration does not have and the published folders do."""
    stored = config.get("edges") or ()
    pairs = stored if isinstance(stored, list | tuple) else (stored,)
    edges = []
    for pair in pairs:
        ends = list(pair) if isinstance(pair, list | tuple) else []
        if len(ends) != 2 or not all(isinstance(end, int) and not isinstance(end, bool) for end in ends):
            raise CheckpointError(f"edges has {pair!r}, which is no pair of keypoints", "correct it in config.json")
        edges.append((int(ends[0]), int(ends[1])))
    return tuple(edges)


def _find_model_size(config: Mapping[str, Any]) -> Size | None:
    """Height and width that the model or its backbone names."""
    for table in (config, config.get("backbone_config"), config.get("vision_config")):
        stored = table.get("image_size") if isinstance(table, Mapping) else None
        if is_size(stored):
            return stored, stored
        if isinstance(stored, list | tuple) and len(stored) == 2 and is_size(stored[0]) and is_size(stored[1]):
            return stored[0], stored[1]
    return None
