"""Case: one family from one publisher, its own module with random weights, and what edgevit must answer as it does."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgevit.checkpoints import read_checkpoint
from tests.reference import randomise, relative_error

TOLERANCE = 1e-4
Answer = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A row of ``docs/models.md``.

    Attributes:
        family: As its authors call it.
        publisher: Whose layout the checkpoint has.
        name: The publisher's name of the model, with what is not its default.
        build: Makes the publisher's own module; its weights are replaced by random ones, all of them.
        save: Writes it into a folder by the publisher's own code; gives what ``read_checkpoint`` takes.
        answers: By task, what the publisher's module answers for pixels ``(B, 3, H, W)``.
        options: Of ``read_checkpoint``.
        batch: Images that are compared.
    """

    family: str
    publisher: str
    name: str
    build: Callable[[], nn.Module]
    save: Callable[[Any, Path], Path]
    answers: Mapping[str, Answer]
    options: Mapping[str, Any] | None = None
    batch: int = 1

    def __str__(self) -> str:
        return f"{self.publisher} {self.name}"


def read_tokens(module: Any, pixels: Tensor) -> Tensor:
    """Patch tokens behind the middle and the last block, side by side ``(B, N, 2·C)``."""
    depth, prefix = module.config.depth, module.config.prefix_tokens
    return torch.cat(module.tokens(pixels, (depth // 2 - 1, depth - 1)), dim=-1)[:, prefix:]


# What edgevit's module answers, by its family and the task.
OURS: Mapping[str, Mapping[str, Answer]] = {
    "vit": {
        "classify": lambda module, pixels: module(pixels),
        "embed": lambda module, pixels: module.readout(module.encode(pixels)),
        "features": read_tokens,
    },
}


def measure(case: Case) -> dict[str, float]:
    """Largest difference over the publisher's largest value, in float32, by task."""
    theirs = randomise(case.build())
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():  # hundreds of megabytes go through it
        model = read_checkpoint(case.save(theirs, Path(folder)), **(case.options or {}))
        pixels = torch.randn(case.batch, 3, *model.image_size, generator=torch.Generator().manual_seed(1))
        ours = OURS[model.family]
        return {
            task: relative_error(ours[task](model.module, pixels), answer(theirs, pixels))
            for task, answer in case.answers.items()
        }
