"""Case: one family from one publisher, its own module with random weights, and what edgevit must answer as it does."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgevit.checkpoints import read_checkpoint
from edgevit.core.errors import CheckpointError
from edgevit.core.task import Task, TaskName
from edgevit.models import ViTConfig
from edgevit.models.model import Model
from edgevit.models.select_task import select_task
from tests.support.reference import leave_undrawn, randomise, relative_error

TOLERANCE = 1e-4
TASKS: tuple[TaskName, ...] = ("classify", "embed", "features")
Answer = Callable[[Any, Tensor], Tensor | Sequence[Tensor]]


@dataclass(frozen=True)
class Case:
    """A row of ``docs/models.md``.

    Attributes:
        family: As its authors call it.
        publisher: Whose layout the checkpoint has.
        name: The publisher's name of the model, with what is not its default.
        build: Makes the publisher's own module; its weights are replaced by random ones, all of them.
        save: Writes it into a folder by the publisher's own code; gives what ``read_checkpoint`` takes.
        answers: By task, what the publisher's module answers for pixels ``(B, 3, H, W)``; see :func:`run_task`.
        options: Of ``read_checkpoint``.
        batch: Images that are compared.
    """

    family: str
    publisher: str
    name: str
    build: Callable[[], nn.Module]
    save: Callable[[Any, Path], Path]
    answers: Mapping[TaskName, Answer]
    options: Mapping[str, Any] | None = None
    batch: int = 1

    def __str__(self) -> str:
        return f"{self.publisher} {self.name}"


def read_inputs(module: Any, pixels: Tensor, *parts: nn.Module) -> list[Tensor]:
    """What some parts of the publisher's module read while it answers."""
    seen: list[Tensor] = []
    hooks = [part.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for part in parts]
    module(pixels)
    for hook in hooks:
        hook.remove()
    return seen


def read_outputs(module: Any, pixels: Tensor, *parts: nn.Module) -> list[Tensor]:
    """What some parts of the publisher's module give while it answers."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, __: Any, out: Any) -> None:
        seen.append(out if isinstance(out, Tensor) else out[0])

    hooks = [part.register_forward_hook(keep) for part in parts]
    module(pixels)
    for hook in hooks:
        hook.remove()
    return seen


def describe_task(task: TaskName, model: Model) -> Task:
    """What is compared: of a ViT's features the patch tokens behind the middle and the last block."""
    if task != "features" or not isinstance(model.config, ViTConfig):
        return Task(task)
    depth = model.config.depth
    return Task(task, levels=(depth // 2 - 1, depth - 1), layout="tokens", norm=False)


def run_task(task: TaskName, model: Model, pixels: Tensor) -> Tensor | tuple[Tensor, ...]:
    """What edgevit's module answers; blocks of a ViT side by side along the last axis."""
    answer: Tensor | tuple[Tensor, ...] = select_task(model, describe_task(task, model)).module(pixels)
    if isinstance(answer, tuple) and isinstance(model.config, ViTConfig):
        return torch.cat(answer, dim=-1)
    return answer


def compare(ours: Tensor | Sequence[Tensor], theirs: Tensor | Sequence[Tensor]) -> float:
    """The relative error; of several levels the largest."""
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        return relative_error(ours, theirs)
    return max(relative_error(one, other) for one, other in zip(ours, theirs, strict=True))


def find_tasks(model: Model) -> set[TaskName]:
    """What the checkpoint has the weights for."""
    found: set[TaskName] = set()
    for task in TASKS:
        with contextlib.suppress(CheckpointError):
            select_task(model, Task(task))
            found.add(task)
    return found


@contextlib.contextmanager
def compute_once() -> Iterator[None]:
    """A Linear that is asked the same again answers from memory: every task goes through the same blocks.

    Layers of a model for another task share their weights with the whole one, by which they are known here.
    """
    known: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
    compute = nn.Linear.forward

    def forward(self: nn.Linear, given: Tensor) -> Tensor:
        weight, before, answer = known.get(id(self.weight), (None, None, None))
        if weight is None or before.shape != given.shape or not torch.equal(before, given):
            answer = compute(self, given)
            known[id(self.weight)] = self.weight, given.clone(), answer.clone()
            return answer
        return answer.clone()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Linear, "forward", forward)
        yield


def measure(case: Case) -> dict[TaskName, float]:
    """Largest difference over the publisher's largest value, in float32, by task: by all that the model can do."""
    with leave_undrawn():
        theirs = case.build()
    theirs = randomise(theirs)
    with (
        tempfile.TemporaryDirectory() as folder,  # hundreds of megabytes go through it
        torch.inference_mode(),
        compute_once(),
    ):
        model = read_checkpoint(case.save(theirs, Path(folder)), **(case.options or {}))
        assert find_tasks(model) == set(case.answers)
        pixels = torch.randn(case.batch, 3, *model.image_size, generator=torch.Generator().manual_seed(1))
        return {
            task: compare(run_task(task, model, pixels), answer(theirs, pixels))
            for task, answer in case.answers.items()
        }
