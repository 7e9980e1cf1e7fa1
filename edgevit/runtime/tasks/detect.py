"""Boxes from a detector's queries, as transformers' ``post_process_object_detection`` reads them."""

from __future__ import annotations

import numpy as np

from edgevit.core.answer import BoxScores
from edgevit.pixels.placement import Placement
from edgevit.runtime.tasks.answers import Detections
from edgevit.runtime.tasks.sample import Floats


def read_boxes(
    logits: Floats,
    boxes: Floats,
    placement: Placement,
    sides: tuple[int, int],
    *,
    scores: BoxScores,
    threshold: float,
    labels: tuple[str, ...] | None,
) -> Detections:
    """What was found in an image, by falling score.

    Args:
        logits: ``(Q, C)``, with ``softmax`` one more for none.
        boxes: ``(Q, 4)``: centre and size as shares of the input.
        placement: Of the image in the input.
        sides: Height and width of the input.
        scores: ``softmax``: the likeliest class of every query. ``sigmoid``: as RF-DETR, the Q likeliest pairs of a
            query and a class, so that a query may count more than once. ``best_sigmoid``: as OWL-ViT, the likeliest
            class of every query.
        threshold: What a score has to be above.
        labels: Names of the classes.
    """
    found: Floats
    if scores == "sigmoid":
        shares = _apply_sigmoid(logits).ravel()
        order = np.argsort(-shares, kind="stable")[: len(logits)]
        queries, classes = np.divmod(order, logits.shape[1])
        found = shares[order]
    elif scores == "best_sigmoid":
        largest = logits.max(axis=1)
        queries = np.argsort(-largest, kind="stable")
        classes, found = logits.argmax(axis=1)[queries], _apply_sigmoid(largest)[queries]
    else:
        exps = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = (exps / exps.sum(axis=1, keepdims=True))[:, :-1]
        likeliest = probabilities.max(axis=1)
        queries = np.argsort(-likeliest, kind="stable")
        classes, found = probabilities.argmax(axis=1)[queries], likeliest[queries]
    kept = found > threshold
    centre, half = boxes[queries[kept], :2], boxes[queries[kept], 2:] * np.float32(0.5)
    corners = np.stack([centre - half, centre + half], axis=1) * np.array([sides[1], sides[0]], np.float32)
    placed = placement.to_image(corners).reshape(-1, 4)
    return Detections(placed.astype(np.float32), found[kept], classes[kept].astype(np.int32), labels)


def _apply_sigmoid(logits: Floats) -> Floats:
    with np.errstate(over="ignore"):
        shares: Floats = np.float32(1) / (np.float32(1) + np.exp(-logits))
    return shares
