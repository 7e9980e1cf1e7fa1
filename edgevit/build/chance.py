"""check_labels: stop where the float model's answers do not fit the labels, before anything slow is begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevit.core.errors import DataError
from edgevit.measure.accuracy import widen_logits
from edgevit.measure.chance import find_doubt

if TYPE_CHECKING:
    from edgevit.build.evidence import Evidence, Judged


def check_labels(evidence: Evidence, *, accept: bool) -> tuple[str, ...]:
    """Refuse labels that the float model does not answer better than chance, or far worse than others.

    Args:
        evidence: Labelled images and the float model's answers.
        accept: Go on, with what is wrong as a warning.

    Returns:
        The warnings.

    Raises:
        DataError: With the right answers, those of chance, and the numbering that fits better where there is one.
    """
    if evidence.task.name != "classify":
        return ()
    doubts = []
    for use, judged in (("validation", evidence.validation), ("calibration", evidence.choice)):
        doubt = _find_doubt(use, judged) if judged is not None and judged.images.labels is not None else None
        if doubt is None:
            continue
        message, hint = doubt
        if not accept:
            raise DataError(message, f"{hint}; --accept-chance goes on all the same")
        doubts.append(message)
    return tuple(doubts)


def _find_doubt(use: str, judged: Judged) -> tuple[str, str] | None:
    logits = widen_logits(np.asarray(judged.outputs[0], np.float64))
    labels, matching = np.asarray(judged.images.labels, np.int64), judged.images.describe_labels()
    return find_doubt(logits.argmax(axis=1), labels, logits.shape[1], "the float model", use, matching)
