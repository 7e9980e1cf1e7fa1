"""What a publisher says of a text tower, and the tower with its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from edgevit.checkpoints.checks import check_names, check_values
from edgevit.checkpoints.files.packing import match_module, match_packing
from edgevit.checkpoints.names import Names
from edgevit.checkpoints.texts.tokenize import Clean
from edgevit.core.errors import CheckpointError
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.task import Scores
from edgevit.models.text_tower import TextConfig, TextTower

CLIP_TEMPLATE = "a photo of a {}."
"""Of CLIP's paper and README; it is what the other templates are compared with there."""
SIGLIP_TEMPLATE = "This is a photo of {}."
"""Of SigLIP's model cards, and of transformers' zero-shot pipeline."""

_BATCH = 64  # texts


@dataclass(frozen=True)
class TextPlan:
    """What was found out about a text tower.

    Attributes:
        config: Of the tower.
        names: The publisher's table.
        tensors: The tower's, by the publisher's names.
        scale: What cosines are multiplied by.
        bias: What is added to them then; ``None`` for nothing.
        template: The publisher's, for labels that come without one.
        clean: What becomes of a text before the tokenizer.
        pad: Number of the token that fills texts up to the context; ``None`` where nothing reads it.
    """

    config: TextConfig
    names: Names
    tensors: Mapping[str, Tensor]
    scale: float
    bias: float | None
    template: str
    clean: Clean
    pad: int | None

    @property
    def scores(self) -> Scores:
        """What the outputs mean: with a bias each label was trained by itself (SigLIP)."""
        return "softmax" if self.bias is None else "sigmoid"


def build_tower(plan: TextPlan, source: str) -> TextTower:
    """Fill a tower, float32 and in evaluation mode.

    Raises:
        CheckpointError: All tensors that are missing, unexpected, wrongly shaped or not finite.
    """
    canonical = plan.names.to_canonical(plan.tensors)
    with torch.device("meta"):
        tower = TextTower(plan.config)
    expected = match_packing(tower.state_dict(), canonical.values())
    found = {ours: plan.tensors[theirs] for theirs, ours in canonical.items()}
    check_names(found, expected, plan.tensors, canonical, plan.names, source)
    check_values(found, canonical, source)
    weights = match_module(found, tower.state_dict())
    tower.load_state_dict({name: value.float().contiguous() for name, value in weights.items()}, assign=True)
    return tower.eval().requires_grad_(False)


def embed_texts(
    tower: TextTower, ids: list[list[int]], pad: int | None, progress: Progress = ignore_progress
) -> Tensor:
    """What texts become, divided by its length: ``(N, D) float64``.

    Args:
        tower: With its weights.
        ids: Of every text, its tokens.
        pad: Fills texts up to the context; where it is ``None``, to the longest of those that are computed together.
        progress: Told how many are done.
    """
    progress("texts", 0, len(ids))
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    result = torch.empty(len(ids), tower.config.embedding, dtype=torch.float64)
    for start in range(0, len(order), _BATCH):
        some = order[start : start + _BATCH]
        length = tower.config.context if pad is not None else len(ids[some[-1]])
        filled = torch.tensor([ids[i] + [ids[i][-1] if pad is None else pad] * (length - len(ids[i])) for i in some])
        with torch.inference_mode():
            result[some] = tower(filled).double()
        progress("texts", start + len(some), len(ids))
    return divide_by_length(result)


def divide_by_length(vectors: Tensor) -> Tensor:
    """``(N, D) → (N, D)``, each of length 1."""
    unit: Tensor = vectors / vectors.norm(dim=1, keepdim=True)
    return unit


def read_number(tensors: Mapping[str, Tensor], name: str, source: str) -> float:
    """A number that lies beside the towers, as ``logit_scale``.

    Raises:
        CheckpointError: It is not there, or not one finite number.
    """
    value = tensors.get(name)
    if value is None or value.numel() != 1 or not bool(torch.isfinite(value.float()).all()):
        what = "no" if value is None else f"{tuple(value.shape)} in place of one finite number as"
        raise CheckpointError(
            f"{source} has {what} {name}, by which images and texts are compared", "save all of the model"
        )
    return float(value)
