"""add_label_head: labels' texts through a checkpoint's text tower, as the head of its image tower.

What CLIP and SigLIP answer for an image and some texts is ``scale · cos(image, text) + bias``. Of texts that stay the
same, the right side is a Linear on the image's features divided by their length. Several templates are averaged as
CLIP's authors do for ImageNet: every text's embedding has length 1, and so has their mean.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from edgevit.checkpoints.assemble import NO_HEAD
from edgevit.checkpoints.files.files import CheckpointFiles, hash_file
from edgevit.checkpoints.texts.label_texts import LabelTexts
from edgevit.checkpoints.texts.tokenize import TextTokenizer, read_tokenizer
from edgevit.checkpoints.texts.tower import TextPlan, build_tower, divide_by_length, embed_texts
from edgevit.core.errors import CheckpointError, count_things
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.task import Task
from edgevit.models.folds.weights import make_linear
from edgevit.models.model import Model
from edgevit.models.pixels import copy_structure
from edgevit.models.vit import ViT

if TYPE_CHECKING:
    from torch import Tensor

_TOWERS = {
    "transformers": "edgevit.checkpoints.texts.transformers_text",
    "open_clip": "edgevit.checkpoints.texts.open_clip_text",
}
"""By reader, as in :data:`edgevit.checkpoints.READERS`."""
MAY_HAVE_LABELS = "its text tower can make a classifier of it: --labels FILE, a label a line"
"""A note."""
_REASONS = (
    "the text tower",
    "for comparing images with texts",
    "the text tower, and what compares images with texts",
)


class _Towers(Protocol):
    def has_tower(self, files: CheckpointFiles) -> bool: ...

    def describe_tower(self, files: CheckpointFiles, model: Model, tokenizer: TextTokenizer) -> TextPlan: ...


def has_text_tower(reader: str, files: CheckpointFiles) -> bool:
    """Whether :func:`add_label_head` can make a head."""
    return reader in _TOWERS and cast(_Towers, import_module(_TOWERS[reader])).has_tower(files)


def add_label_head(
    model: Model, reader: str, files: CheckpointFiles, texts: LabelTexts, progress: Progress = ignore_progress
) -> Model:
    """A classifier of labels that are given as texts.

    Args:
        model: The image tower, as ``reader`` read it.
        reader: Of :data:`edgevit.checkpoints.READERS`.
        files: Of the checkpoint, with both towers.
        texts: The labels.
        progress: Told how many texts are computed.

    Raises:
        CheckpointError: There is no text tower or tokenizer, or it cannot be read; or the model has a head.
        DataError: Texts are too long.
        MissingPackageError: ``tokenizers`` is not installed.
    """
    if model.classes:
        raise CheckpointError(f"{files.source} has a head of {model.classes} classes", "leave --labels out")
    if not has_text_tower(reader, files) or not isinstance(model.module, ViT):
        raise CheckpointError(
            f"{files.source} has no text tower that could read labels ({model.source.architecture}, "
            f"{model.source.layout})",
            "name a folder of transformers' CLIPModel or SiglipModel, of open_clip with its open_clip_config.json, or "
            "of transformers' OWL-ViT or OWLv2",
        )
    folder = files.path if files.path.is_dir() else files.path.parent
    tokenizer = read_tokenizer(folder, files.source)
    plan = cast(_Towers, import_module(_TOWERS[reader])).describe_tower(files, model, tokenizer)
    templates = texts.templates or (plan.template,)
    filled = texts.fill(templates)
    ids = tokenizer.encode(filled, plan.clean, plan.config.context, plan.config.vocabulary)
    each = embed_texts(build_tower(plan, files.source), ids, plan.pad, progress)
    weight = average_texts(each, len(texts.labels)) * math.exp(plan.scale)
    bias = weight.new_full((len(weight),), plan.bias or 0.0)

    module = copy_structure(model.module)
    assert isinstance(module, ViT)
    module.config = dataclasses.replace(module.config, classes=len(weight), compares=True)
    module.label_head = make_linear(weight, bias)
    note = describe_texts(len(weight), templates)
    kept = (n for n in model.source.notes if n != NO_HEAD and not any(f"({reason})" in n for reason in _REASONS))
    source = dataclasses.replace(
        model.source,
        notes=(*kept, note),
        templates=templates,
        texts=hash_texts(filled, ids, tokenizer),
    )
    task = Task("classify", scores=plan.scores)
    return dataclasses.replace(model, module=module, labels=texts.labels, source=source, task=task)


def describe_texts(labels: int, templates: Sequence[str]) -> str:
    """A note on a head that was made of so many labels."""
    described = f"put into {templates[0]!r}" if len(templates) == 1 else f"the mean of {len(templates)} templates"
    return f"the head is {count_things(labels, 'label')} as texts, {described}"


def average_texts(each: Tensor, labels: int) -> Tensor:
    """``(labels · templates, D) → (labels, D)``, of length 1."""
    return divide_by_length(each.reshape(labels, -1, each.shape[1]).mean(dim=1))


def hash_texts(filled: Sequence[str], ids: list[list[int]], tokenizer: TextTokenizer) -> str:
    """SHA-256 of texts with their tokens, which another version of ``tokenizers`` may make others of."""
    files = "".join(f"{hash_file(path)}  {path.name}\n" for path in tokenizer.files)
    return hashlib.sha256(json.dumps([files, list(filled), ids]).encode()).hexdigest()
