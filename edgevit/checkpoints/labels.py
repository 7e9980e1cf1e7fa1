"""Class names as publishers store them, and what transformers says that a model's outputs mean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgevit.core.errors import CheckpointError, count_things
from edgevit.core.task import Scores

_PLACEHOLDER = re.compile(r"LABEL_\d+")

_SCORES: Mapping[str, Scores] = {
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
    "regression": "identity",
}
"""By ``problem_type``, which transformers sets by the loss that it trains with."""


def read_scores(config: Mapping[str, Any], where: str) -> Scores | None:
    """What the outputs mean, where a ``config.json`` of transformers says it.

    Raises:
        CheckpointError: It says something else.
    """
    problem = config.get("problem_type")
    if problem is None:
        return None
    if not isinstance(problem, str) or problem not in _SCORES:
        raise CheckpointError(
            f"{where} says problem_type = {problem!r}, which is none of {', '.join(_SCORES)}", "correct it there"
        )
    return _SCORES[problem]


def read_labels(stored: Any, classes: int, where: str) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """A name for every class, or ``None``; and notes that say why.

    Args:
        stored: A list of names, or a table of class number to name.
        classes: Length of the logits; 0 where the model has none.
        where: The key that ``stored`` was found under.
    """
    if not classes:
        return None, ()
    if not stored:
        return None, ("no class names are stored; classes are numbers",)
    if isinstance(stored, Mapping):
        numbered = {str(k): v for k, v in stored.items()}
        names = [numbered.get(str(i)) for i in range(len(numbered))]
    elif isinstance(stored, Sequence) and not isinstance(stored, str):
        names = list(stored)
    else:
        names = [None]
    if not all(isinstance(n, (str, int)) and not isinstance(n, bool) for n in names):
        return None, (f"{where} is not a name for each of the classes 0 … {classes - 1}; classes are numbers",)
    if len(names) != classes:
        named = count_things(len(names), "class", "classes")
        return None, (f"{where} names {named}, the head has {classes}; classes are numbers",)
    labels = tuple(str(n) for n in names)
    if all(_PLACEHOLDER.fullmatch(n) for n in labels):
        return None, (f"{where} holds placeholders (LABEL_0 …); classes are numbers",)
    return labels, ()
