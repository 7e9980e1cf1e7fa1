"""Task: what an engine gives for an image.

Only the standard library: recipes and manifests hold it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from edgevit.core.schema import FieldError

TaskName: TypeAlias = Literal["auto", "classify", "embed", "features", "map", "depth", "segment", "detect", "pose"]
ANSWERED_TASKS: tuple[TaskName, ...] = ("depth", "segment", "detect", "pose")
"""Whose outputs become an answer in the image's own pixels, as a bundle's :class:`edgevit.core.answer.Answer` says."""
WHOLE_TASKS: tuple[TaskName, ...] = ("map", *ANSWERED_TASKS)
"""Of a model that has something else than a classifier behind its encoder."""
DENSE_TASKS: tuple[TaskName, ...] = ("features", *WHOLE_TASKS)
"""Whose answers are judged by the noise of every output."""
Layout: TypeAlias = Literal["map", "tokens"]
Scores: TypeAlias = Literal["softmax", "sigmoid", "identity"]


@dataclass(frozen=True)
class Task:
    """``[task]`` of a recipe: what is computed, and in which form.

    Attributes:
        name: ``classify``: logits. ``embed``: the pooled features that the head would read. ``features``: what chosen
            stages of a Swin or blocks of a ViT give, for detectors and segmenters. ``map``: all that a whole model
            gives, as it gives it. ``depth``, ``segment``, ``detect``, ``pose``: the same, from which an answer in the
            image's own pixels is made. ``auto``: the first of these that the checkpoint has the weights for.
        normalize: Of ``embed``: divide the embedding by its Euclidean norm, in the graph.
        levels: Of ``features``: stages or blocks, counted from 0 and in ascending order; by default all stages, or four
            blocks evenly spaced.
        layout: Of ``features``: maps ``(B, C, h, w)``, or patch tokens ``(B, h·w, C)`` in row-major order.
        scores: Of ``classify``: what the outputs mean. ``softmax``: one of the classes is right. ``sigmoid``: each
            label is there or not, by itself; of one output, the second of two classes is. ``identity``: they are
            numbers, as of a regression. By default what the checkpoint says, else ``softmax``, or of one output
            ``sigmoid``.
        norm: Of ``features`` of a ViT: whether its last LayerNorm is applied to every level; by default what the
            origin does. A Swin's levels have the norms that its checkpoint has for them.
    """

    name: TaskName = "auto"
    normalize: bool = False
    levels: tuple[int, ...] = ()
    layout: Layout = "map"
    norm: bool | None = None
    scores: Scores | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.normalize and self.name not in ("auto", "embed"):
            problems.append(f"normalize is for embed, not for {self.name}")
        if self.scores is not None and self.name not in ("auto", "classify"):
            problems.append(f"scores is for classify, not for {self.name}")
        if self.name not in ("auto", "features"):
            given = {"levels": self.levels, "layout": self.layout != "map", "norm": self.norm is not None}
            problems += [f"{key} is for features, not for {self.name}" for key, value in given.items() if value]
        if any(level < 0 for level in self.levels) or list(self.levels) != sorted(set(self.levels)):
            problems.append(f"levels = {list(self.levels)} are not numbers from 0 in ascending order")
        if problems:
            raise FieldError(problems)

    @property
    def is_whole(self) -> bool:
        """Whether a whole model is asked for, with what stands behind its encoder."""
        return self.name in WHOLE_TASKS

    @property
    def is_dense(self) -> bool:
        """Whether its answers are judged by the noise of every output."""
        return self.name in DENSE_TASKS
