"""A module of timm's with random weights, and what is read from the folder that timm saves it to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from edgevit.checkpoints import read_checkpoint
from edgevit.models.model import Model
from tests.support.reference import import_timm, randomise, relative_error

TOLERANCE = 1e-4
"""Of logits: the largest difference over the largest value."""


def compare_with_timm(name: str, folder: Path, batch: int = 1, **args: Any) -> Model:
    """Read the folder, and hold the module's logits against timm's."""
    timm = import_timm()
    from timm.models._hub import save_for_hf

    theirs = randomise(timm.create_model(name, weight_init="skip", **args))
    save_for_hf(theirs, str(folder), safe_serialization=True)
    model = read_checkpoint(folder)
    assert model.source.architecture == name
    assert model.parameters == sum(p.numel() for p in theirs.parameters())
    pixels = torch.randn(batch, 3, *model.image_size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert relative_error(model.module(pixels), theirs(pixels)) <= TOLERANCE
    return model
