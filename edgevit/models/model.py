"""Model: a canonical module, its preprocessing and labels, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edgevit.core.answer import Answer
from edgevit.core.engine import TensorSpec
from edgevit.core.task import Task

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from edgevit.core.pass_record import PassRecord
    from edgevit.core.target import ExportForm
    from edgevit.graph.graph import Graph
    from edgevit.models import ModelConfig
    from edgevit.pixels.preprocess import Preprocess


@runtime_checkable
class OwnGraph(Protocol):
    """A module that stands for a graph which somebody else exported, and gives it itself.

    Attributes:
        family: In place of a canonical one's.
    """

    family: str

    def export(self, preprocess: Preprocess, form: ExportForm, batch: int) -> tuple[Graph, tuple[PassRecord, ...]]:
        """The graph in the form that engines fuse, ``(B, H, W, 3) uint8`` in, for ``batch`` images a call."""


@runtime_checkable
class WholeGraph(OwnGraph, Protocol):
    """One with an encoder inside that is canonical.

    Attributes:
        encoder: The canonical module, which can be a model by itself.
    """

    encoder: nn.Module

    def encoder_model(self, preprocess: Preprocess) -> Model:
        """The encoder with what surrounds it reading its tokens, as a model of features."""


@dataclass(frozen=True)
class Source:
    """Where a model came from, kept in the bundle.

    Attributes:
        path: What the user named.
        layout: The layout that was recognised, for example ``timm hub folder``.
        architecture: The publisher's name for it.
        sha256: Of the weight and configuration files: of the lines ``<sha256>  <file name>``, in order of names.
        notes: Defaults that were assumed, tensors that were dropped, numbers that were converted.
        revision: Commit of the hub's repository, where it came from there.
        weights: Which set of weights, where a file has two: ``ema`` (averaged over training) or ``model``.
        templates: What labels were put into, where the head was made of their texts: ``a photo of a {}.``
        texts: SHA-256 of those texts, of their tokens and of the tokenizer's files.
    """

    path: str
    layout: str
    architecture: str
    sha256: str
    notes: tuple[str, ...] = ()
    revision: str | None = None
    weights: str | None = None
    templates: tuple[str, ...] = ()
    texts: str | None = None

    @property
    def identity(self) -> str:
        """Differs wherever the weights may differ, also for two sets of weights in one file or with other labels."""
        return ":".join(part for part in (self.sha256, self.weights, self.texts) if part is not None)


@dataclass(frozen=True)
class Model:
    """What a checkpoint holds, in canonical form.

    Attributes:
        module: A canonical module in evaluation mode, float32, without gradients: normalised pixels
            ``(B, 3, H, W) float32 → (B, classes) float32`` logits, or what
            :func:`edgevit.models.select_task.select_task` made of it.
        preprocess: How an image becomes the module's input.
        labels: A name for every class, or ``None`` where the checkpoint has none.
        task: What the module computes.
        assumed: What nothing states of ``preprocess`` (``mean``, ``resize``, …), so that it was assumed. Whoever gives
            images has to say it.
        answer: How the outputs become depth, classes, boxes or poses; ``None`` where nothing says it. ``labels`` are
            then the names of what it finds.
        answers: An ONNX file whose own answers are the float reference, in place of the module's.
        passes: How that file was brought to the module.
        float_only: Why INT8 cannot be made of it; empty where it can.
    """

    module: nn.Module
    preprocess: Preprocess
    labels: tuple[str, ...] | None
    source: Source
    task: Task = field(default_factory=lambda: Task("classify"))
    assumed: tuple[str, ...] = ()
    answer: Answer | None = None
    answers: Path | None = None
    passes: tuple[PassRecord, ...] = ()
    float_only: str = ""

    def without_weights(self) -> Model:
        """The same model without the numbers of its weights, whose memory goes back once nothing else holds them."""
        from edgevit.models.pixels import copy_structure

        return replace(self, module=copy_structure(self.module).to("meta"))

    @property
    def config(self) -> ModelConfig:
        """The module's config."""
        config: ModelConfig = self.module.config  # type: ignore[assignment]
        return config

    @property
    def family(self) -> str:
        """``vit`` or ``swin``; ``onnx`` for a file that was recognised in part."""
        from edgevit.models import find_family

        return self.module.family if isinstance(self.module, OwnGraph) else find_family(self.config)

    @property
    def classes(self) -> int:
        """Length of the logits; 0 where the module gives none."""
        return self.config.classes

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Names, shapes ``("batch", …)`` and types of what is computed."""
        config, task = self.config, self.task
        if task.is_whole:
            whole: tuple[TensorSpec, ...] = self.module.config.outputs  # type: ignore[union-attr, assignment]
            return whole
        if task.name == "classify":
            return (TensorSpec("logits", ("batch", config.classes), "float32"),)
        if task.name == "embed":
            return (TensorSpec("embedding", ("batch", config.features), "float32"),)
        specs = []
        for level in task.levels:
            channels, height, width = config.level_shape(level)
            shape = (channels, height, width) if task.layout == "map" else (height * width, channels)
            specs.append(TensorSpec(f"{config.level_name}{level}", ("batch", *shape), "float32"))
        return tuple(specs)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self.config.image_size

    @property
    def parameters(self) -> int:
        """Numbers in the weights."""
        return sum(p.numel() for p in self.module.parameters())
