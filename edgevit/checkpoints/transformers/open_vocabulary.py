"""Detectors of labels that are given as texts: transformers' OWL-ViT and OWLv2.

Their text tower runs at the build and nowhere else. What it makes of the labels is constant in the head that compares
patches with them, and the rest is a detector that reads an image. The towers and heads are transformers' own modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgevit.checkpoints.fields import Fields
from edgevit.checkpoints.files.files import CheckpointFiles
from edgevit.checkpoints.texts.label_head import average_texts, describe_texts, hash_texts
from edgevit.checkpoints.texts.label_texts import LabelTexts
from edgevit.checkpoints.texts.tokenize import keep_text, read_tokenizer
from edgevit.checkpoints.texts.tower import divide_by_length
from edgevit.checkpoints.transformers.dense_tasks import find_dense_class
from edgevit.core.errors import CheckpointError
from edgevit.core.progress import Progress, ignore_progress

TEMPLATE = "a photo of a {}"
"""Of transformers' documentation of both."""

_CLASSES = ("OwlViTForObjectDetection", "Owlv2ForObjectDetection")
_CONTEXT, _VOCABULARY = 16, 49408  # of text_config, where it does not say them
_BATCH = 64  # texts


def takes_labels(config: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` is that of a detector that needs labels as texts."""
    return find_dense_class(config) in _CLASSES


@dataclass(frozen=True)
class Queries:
    """The texts of labels, as tokens.

    Attributes:
        labels: In their order.
        templates: That they were put into.
        ids: Of every label in every template, label by label, its tokens.
        texts: SHA-256 of the texts, their tokens and the tokenizer's files.
    """

    labels: tuple[str, ...]
    templates: tuple[str, ...]
    ids: list[list[int]]
    texts: str

    @property
    def note(self) -> str:
        """On what the head is."""
        return describe_texts(len(self.labels), self.templates)


def read_queries(files: CheckpointFiles, texts: LabelTexts | None) -> Queries:
    """Put the labels into their templates, and take these apart into tokens.

    Raises:
        CheckpointError: There are no labels or no tokenizer, or the tokenizer is damaged or another model's.
        DataError: Texts are too long.
        MissingPackageError: ``tokenizers`` is not installed.
    """
    if texts is None:
        raise CheckpointError(
            f"{files.source} finds what texts say, and no labels are given",
            "give --labels FILE, a label a line: they become the classes of its head, and nothing else is built of it",
        )
    where = f"{files.source}/config.json, text_config"
    fields = Fields(Fields(files.config, where).mapping("text_config"), where)
    sizes: dict[str, int] = fields.finish(
        dict,
        context=fields.integer("max_position_embeddings", _CONTEXT, high=2**20),
        vocabulary=fields.integer("vocab_size", _VOCABULARY, high=2**20),
    )
    templates = texts.templates or (TEMPLATE,)
    filled = texts.fill(templates)
    tokenizer = read_tokenizer(files.path if files.path.is_dir() else files.path.parent, files.source)
    ids = tokenizer.encode(filled, keep_text, **sizes)
    return Queries(texts.labels, templates, ids, hash_texts(filled, ids, tokenizer))


class LabelledDetector(nn.Module):
    """A detector with its labels: normalised pixels ``(B, 3, H, W) float32`` to the outputs that are named.

    These are ``logits (B, patches, labels)`` and ``pred_boxes (B, patches, 4)``.

    Args:
        model: transformers' module.
        names: Of the outputs, in their order.
        queries: The labels' texts.
        size: Height and width of the input; positions are interpolated where they are not the model's own.
        progress: Told how many texts are computed.
    """

    def __init__(
        self,
        model: Any,
        names: tuple[str, ...],
        queries: Queries,
        size: tuple[int, int],
        progress: Progress = ignore_progress,
    ) -> None:
        super().__init__()
        self.model = model
        self.names = names
        stored = model.config.vision_config.image_size
        self.resamples = size != (stored, stored)
        self.register_buffer("queries", embed_queries(model, queries, progress)[None])

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """Outputs in the order of their names."""
        grid, _ = self.model.image_embedder(pixel_values, interpolate_pos_encoding=self.resamples)
        patches = grid.flatten(1, 2)
        found = {
            "logits": self.model.class_predictor(patches, self.queries)[0],
            "pred_boxes": self.model.box_predictor(patches, grid, self.resamples),
        }
        return tuple(found[name] for name in self.names)


def embed_queries(model: Any, queries: Queries, progress: Progress = ignore_progress) -> Tensor:
    """What the text tower makes of labels, of length 1: ``(labels, D) float32``.

    Args:
        model: transformers' module.
        queries: The labels' texts.
        progress: Told how many texts are computed.
    """
    towers = getattr(model, model.base_model_prefix)
    ids, found = queries.ids, []
    progress("texts", 0, len(ids))
    for start in range(0, len(ids), _BATCH):
        some = ids[start : start + _BATCH]
        longest = max(map(len, some))
        # Attention is causal and the first of the highest tokens is read: what stands behind a text's end is nothing.
        filled = torch.tensor([text + [text[-1]] * (longest - len(text)) for text in some])
        with torch.inference_mode():
            found.append(towers.text_projection(towers.text_model(input_ids=filled).pooler_output).double())
        progress("texts", start + len(some), len(ids))
    return average_texts(divide_by_length(torch.cat(found)), len(queries.labels)).float()
