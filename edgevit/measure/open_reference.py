"""read_reference: the checkpoint that a bundle was built from, whose float module answers as the bundle should."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.core.errors import CheckpointError

if TYPE_CHECKING:
    from edgevit.checkpoints.texts.label_texts import LabelTexts
    from edgevit.models.model import Model
    from edgevit.runtime.manifest import Manifest


def read_reference(reference: str | Path, arch: str | None, manifest: Manifest) -> Model:
    """The checkpoint's model, for a bundle's own preprocessed pixels and its task.

    Args:
        reference: The checkpoint.
        arch: Its architecture, where it is a file of bare weights.
        manifest: The bundle's.

    Raises:
        CheckpointError: It cannot be read, or answers in another form than the bundle.
    """
    from edgevit.checkpoints import read_checkpoint
    from edgevit.models.select_task import select_task

    size = (manifest.preprocess.height, manifest.preprocess.width)
    # A training checkpoint's averaged weights are the default; the bundle says where it was made from the others.
    last_step = manifest.source.get("weights") == "model"
    model = read_checkpoint(
        reference,
        arch=arch,
        image_size=size,
        weights="model" if last_step else None,
        texts=_recall_texts(manifest),
    )
    if model.assumed:  # an ONNX file that does not say it: the bundle does
        model = dataclasses.replace(model, preprocess=manifest.preprocess, assumed=())
    model = select_task(model, manifest.read_task())
    if manifest.answer is None and model.classes != manifest.classes:  # those of an answer are its outputs'
        raise CheckpointError(
            f"{reference} has {model.classes} classes, the bundle has {manifest.classes}",
            "give the checkpoint that the bundle was built from",
        )
    theirs, ours = ([(s.name, s.shape[1:]) for s in specs] for specs in (model.outputs, manifest.outputs))
    if theirs != ours:
        raise CheckpointError(
            f"{reference} gives {_show(theirs)}, the bundle {_show(ours)}",
            "give the checkpoint that the bundle was built from",
        )
    return model


def _recall_texts(manifest: Manifest) -> LabelTexts | None:
    """The labels' texts that the bundle's head was made of."""
    from edgevit.checkpoints.texts.label_texts import read_label_texts

    templates, labels = manifest.templates, manifest.labels
    return read_label_texts(labels, templates) if templates and labels else None


def _show(outputs: list[tuple[str, tuple[int | str, ...]]]) -> str:
    return ", ".join(f"{name} of {' × '.join(str(side) for side in shape)}" for name, shape in outputs)
