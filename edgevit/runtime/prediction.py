"""rank_outputs: from what an engine says of one image to its classes, best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Prediction:
    """One class of an image.

    Attributes:
        label: Its name, or its index as text.
        index: Its place among the outputs.
        probability: Among all classes or, where each label is by itself, that it is there; ``None`` where the outputs
            are numbers, as of a regression.
        value: The output itself.
    """

    label: str
    index: int
    probability: float | None
    value: float


def rank_outputs(
    logits: npt.NDArray[Any], labels: Sequence[str] | None, scores: str, top_k: int = 5
) -> list[Prediction]:
    """The most probable classes, best first; of a model of numbers, the largest of these.

    Args:
        logits: ``(K,)`` floats, finite.
        labels: Names of the K classes, if there are any.
        scores: What the logits mean, see :class:`edgevit.core.task.Task`.
        top_k: How many; at most all of them are given.
    """
    logits = logits.astype(np.float64)
    if scores == "softmax":
        exponentials = np.exp(logits - logits.max())
        probabilities = exponentials / exponentials.sum()
    else:
        probabilities = 0.5 * (1 + np.tanh(0.5 * logits))  # the sigmoid, which overflows nowhere in this form
    known = scores != "identity"
    return [
        Prediction(
            labels[index] if labels is not None else str(index),
            index,
            float(probabilities[index]) if known else None,
            float(logits[index]),
        )
        for index in np.argsort(-logits, kind="stable")[:top_k].tolist()
    ]
