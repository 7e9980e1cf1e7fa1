"""Checkpoints of every publisher, read into one canonical form.

Nothing from a checkpoint is executed: configurations are JSON, weights are safetensors or pickles of plain tensors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from edgevit.core.errors import CheckpointError
from edgevit.core.packages import require_package
from edgevit.core.progress import Progress, ignore_progress

if TYPE_CHECKING:
    from edgevit.checkpoints.files.contents import WhichWeights
    from edgevit.checkpoints.files.files import CheckpointFiles
    from edgevit.checkpoints.preprocess_options import PreprocessOptions
    from edgevit.checkpoints.texts.label_texts import LabelTexts
    from edgevit.models.model import Model

# The first that recognises a checkpoint's contents reads it.
READERS: Mapping[str, str] = {
    "onnx": "edgevit.checkpoints.onnx_file.reader",
    "keras": "edgevit.checkpoints.published.keras",
    "timm": "edgevit.checkpoints.timm.timm",
    "transformers": "edgevit.checkpoints.transformers.transformers",
    "torchvision": "edgevit.checkpoints.published.torchvision",
    "jax": "edgevit.checkpoints.published.jax",
    "mindspore": "edgevit.checkpoints.published.mindspore",
    "open_clip": "edgevit.checkpoints.published.open_clip",
    "dinov3": "edgevit.checkpoints.published.dinov3",
    "dinov2": "edgevit.checkpoints.published.dinov2",
    "dino": "edgevit.checkpoints.published.dino",
    "swin": "edgevit.checkpoints.published.swin",
    "mae": "edgevit.checkpoints.published.mae",
    "deit": "edgevit.checkpoints.published.deit",
    "bare": "edgevit.checkpoints.published.bare",
}
# They have timm's names: with an architecture, they are bare files for which timm's documentation counts.
_BARE_WITH_ARCH = ("swin", "mae", "deit")


class Reader(Protocol):
    """What a publisher's module offers."""

    LAYOUT: str

    def recognise(self, files: CheckpointFiles) -> bool:
        """Whether these files are in this publisher's layout, judged by their contents."""
        ...

    def read(self, files: CheckpointFiles, arch: str | None, image_size: tuple[int, int] | None) -> Model:
        """Read them, or raise a ``CheckpointError``."""
        ...


def read_checkpoint(
    source: str | os.PathLike[str],
    *,
    arch: str | None = None,
    image_size: tuple[int, int] | None = None,
    weights: WhichWeights | None = None,
    preprocess: PreprocessOptions | None = None,
    texts: LabelTexts | None = None,
    progress: Progress = ignore_progress,
) -> Model:
    """Read a trained classifier.

    Args:
        source: A timm hub folder, a transformers folder, a bare weight file, an ONNX file, or a model of the Hugging
            Face hub as ``hf-hub:ORGANISATION/NAME[@REVISION]``.
        arch: timm's name of the architecture; for a bare weight file, which does not say it.
        image_size: Height and width in pixels to use in place of the checkpoint's own. Position embeddings are
            resampled as timm does.
        weights: ``ema`` for weights averaged over training (a model EMA, DINO's teacher), ``model`` for the last
            step's; by default ``ema`` where a file has both, as in timm.
        preprocess: What to use in place of the checkpoint's own preprocessing.
        texts: Labels that the text tower of a CLIP, SigLIP or OWL-ViT makes a head of.
        progress: Told how many of these texts are computed.

    Returns:
        The canonical module, float32 and in evaluation mode, with preprocessing, labels and notes on what was assumed.

    Raises:
        DataError: Texts of labels are longer than the text tower takes.
        CheckpointError: The layout is unknown, a file is damaged, the model or a part of it is not supported, a pickle
            needs more than tensors, the weights are not finite, or the image size is not possible; tensors that are
            missing, unexpected or wrongly shaped are all listed.
        MissingPackageError: torch or safetensors is not installed.
    """
    for package in ("torch", "safetensors"):
        require_package(package, "reading a checkpoint")
    from edgevit.checkpoints.files.files import find_files
    from edgevit.checkpoints.files.other_kinds import refuse_other
    from edgevit.checkpoints.passed_over import list_passed_over
    from edgevit.checkpoints.texts.label_head import MAY_HAVE_LABELS, add_label_head, has_text_tower
    from edgevit.checkpoints.transformers.open_vocabulary import takes_labels
    from edgevit.checkpoints.transformers.transformers import read as read_transformers

    files = find_files(source, weights)
    for name, path in READERS.items():
        reader = cast(Reader, import_module(path))
        if (arch is None or name not in _BARE_WITH_ARCH) and reader.recognise(files):
            if texts is None:
                model = reader.read(files, arch, image_size)
            elif name == "transformers" and takes_labels(files.config):
                model = read_transformers(files, arch, image_size, texts, progress)
            else:
                model = add_label_head(reader.read(files, arch, image_size), name, files, texts, progress)
            tower = [MAY_HAVE_LABELS] if texts is None and has_text_tower(name, files) else []
            notes = (*model.source.notes, *tower, *list_passed_over(name, files, texts=texts is not None))
            model = replace(model, source=replace(model.source, notes=notes))
            return model if preprocess is None else preprocess.apply(model)
    refuse_other(files.source, files.path)
    layouts = "; ".join(cast(Reader, import_module(path)).LAYOUT for path in READERS.values())
    raise CheckpointError(
        f"{files.source} is in no known layout: {files.describe()}", f"layouts that can be read: {layouts}"
    )
