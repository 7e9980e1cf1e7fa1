"""refuse_ending: a graph that ends in something else than what a model computes: a decision, or a probability.

Decisions agree or not and hide every error in between, and the noise of probabilities near 0 and 1 is that of nothing:
a build that compared them would pass whatever it did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgevit.checkpoints.onnx_file.answers import Answer
from edgevit.core.errors import CheckpointError
from edgevit.graph.movement import strip_reshapes

if TYPE_CHECKING:
    from edgevit.graph.graph import Graph

_PROBABILITIES = "probabilities", "edgevit run shows probabilities"
_CLASSES = "the class itself, not how likely each one is", "edgevit run shows the likeliest classes"
_TOP = "the likeliest classes in their order, not one number for each class", "edgevit run shows the likeliest classes"
_DECISIONS = "decisions, not the numbers that they are made by", "edgevit run shows probabilities"
_ENDINGS = {
    **dict.fromkeys(("Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid"), _PROBABILITIES),
    **dict.fromkeys(("ArgMax", "ArgMin", "Hardmax", "OneHot"), _CLASSES),
    "TopK": _TOP,
    **dict.fromkeys(("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Round", "Sign"), _DECISIONS),
}
# What stands behind one of these and leaves it what it is; of arithmetic, with constants.
_BEHIND = {
    "Identity",
    "Cast",
    "Clip",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Neg",
    "Concat",
    "Gather",
    "Slice",
    "ReduceMax",
    "Not",
}
_SUM_TOLERANCE = 1e-4


def refuse_ending(graph: Graph, answer: Answer, size: tuple[int, int], where: str) -> None:
    """Raise where a graph gives decisions or probabilities.

    Args:
        graph: For one image a call.
        answer: The file's own answers, which show a Softmax that is written as its parts.
        size: Height and width of an image.
        where: For the message.

    Raises:
        CheckpointError: With the operator to leave out.
    """
    found = _find_ending(graph.model.graph.outputs[0])
    if found is None:
        images = np.random.default_rng(0).standard_normal((2, 1, 3, *size), np.float32)
        # One a call: what is said to take several need not.
        found = "a softmax" if all(_sums_to_one(answer(image)) for image in images) else None
    if found is None:
        return
    what, instead = _ENDINGS.get(found, _PROBABILITIES)
    raise CheckpointError(
        f"{where} ends in {found}: it gives {what}, and a build compares logits",
        f"export the model without {found if found not in _ENDINGS else f'the {found}'}; {instead}",
    )


def _find_ending(output: ir.Value) -> str | None:
    waiting: list[ir.Value] = [output]
    seen: set[ir.Node] = set()
    while waiting:
        value = strip_reshapes(waiting.pop())
        node = value.producer()
        if node is None or node in seen or node.domain != "":
            continue
        if node.op_type in _ENDINGS:
            return node.op_type
        seen.add(node)
        sources = [v for v in node.inputs if v is not None and v.const_value is None]
        # Two values that meet are a part of the model, but [1 - p, p] is a probability again.
        if node.op_type in _BEHIND and (len(sources) == 1 or node.op_type == "Concat"):
            waiting += sources
    return None


def _sums_to_one(logits: npt.NDArray[np.float32]) -> bool:
    """Whether the rows are probabilities of classes, or their logarithms."""
    if logits.ndim != 2 or logits.shape[1] < 2:
        return False
    rows = np.asarray(logits, np.float64)
    if (rows <= 0).all():
        rows = np.exp(rows)
    return bool((rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=_SUM_TOLERANCE))
