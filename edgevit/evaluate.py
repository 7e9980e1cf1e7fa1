"""Accuracy of a bundle on images, and its agreement with the float model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.errors import CheckpointError, DataError
from edgevit.progress import Progress, ignore_progress
from edgevit.report import Accuracy, DataUse

if TYPE_CHECKING:
    from edgevit.accuracy import Run
    from edgevit.runtime import Classifier

BATCH = 16
"""Images decoded at a time; a session splits them by what its engine takes."""


@dataclass(frozen=True)
class Evaluation:
    """What a bundle answered.

    Attributes:
        top1: Images whose label came first; ``None`` without labels.
        top5: Images whose label was among the first five.
        accuracy: The same compared with the float model; ``None`` without a reference.
        reference: The checkpoint that was compared with.
    """

    bundle: str
    data: DataUse
    top1: int | None
    top5: int | None
    accuracy: Accuracy | None
    reference: str | None


def evaluate_bundle(
    bundle: str | Path,
    data: str | Path,
    *,
    reference: str | Path | None = None,
    arch: str | None = None,
    skip_bad_images: bool = False,
    open_with: Callable[[str | Path], AbstractContextManager[Any]] | None = None,
    progress: Progress = ignore_progress,
) -> Evaluation:
    """Run a bundle over images.

    Args:
        bundle: The folder.
        data: A folder per class, or a CSV; see :meth:`edgevit.images.ImageSet.read`.
        reference: The checkpoint that the bundle was built from, to compare every answer with its float module's. Needs
            the extra ``build``; without it, labels alone judge.
        arch: Architecture of the reference, where it is a file of bare weights.
        skip_bad_images: Go on without images that cannot be read.
        open_with: Opens the bundle elsewhere, as :func:`edgevit.devices.remote_answers.open_on` does; here by default.
        progress: Told after every batch.

    Raises:
        BundleError: The bundle is damaged or portable.
        DataError: Bad images, or neither labels nor a reference to judge by.
        CheckpointError: The reference cannot be read, or answers with another number of classes.
    """
    from edgevit.accuracy import AccuracyMeter
    from edgevit.images import ImageSet
    from edgevit.runtime import open_bundle

    with (open_with or open_bundle)(bundle) as classifier:
        images = ImageSet.read(data, labels=classifier.labels, skip_bad=skip_bad_images)
        if images.labels is None and reference is None:
            raise DataError(
                f"{data} has no labels and there is no reference: nothing can be counted",
                "give labelled images (a folder per class, or a CSV with a column label), or --reference CHECKPOINT",
            )
        classes = classifier.manifest.classes
        images = images.check(
            classes,
            skip_bad=skip_bad_images,
            preprocess=classifier.preprocess,
            progress=lambda done, total: progress("check images", done, total),
        )
        use = DataUse(str(data), len(images), images.labels is not None, images.sha256(), len(images.skipped))
        run_reference = None if reference is None else _open_reference(reference, arch, classifier)
        meter, done = AccuracyMeter(classes, labelled=images.labels is not None), 0
        progress("accuracy", 0, len(images))
        for batch in images.batches(classifier.preprocess, BATCH):
            logits = classifier.run(batch.pixels)
            # Without a reference, compared with itself: only the counts of right answers are kept.
            expected = logits if run_reference is None else run_reference(batch.pixels)
            meter.update(logits, expected, batch.labels, batch.files)
            done += len(batch.pixels)
            progress("accuracy", done, len(images))
        result = meter.result(skipped_images=len(images.skipped))
    compared = None if reference is None else result
    return Evaluation(
        str(bundle), use, result.top1, result.top5, compared, None if reference is None else str(reference)
    )


def _open_reference(reference: str | Path, arch: str | None, classifier: Classifier) -> Run:
    """The checkpoint's float module, for the bundle's own preprocessed pixels."""
    from edgevit.checkpoints import read_checkpoint
    from edgevit.reference import run_module

    size = (classifier.preprocess.height, classifier.preprocess.width)
    # A training checkpoint's averaged weights are the default; the bundle says where it was made from the others.
    last_step = classifier.manifest.source.get("weights") == "model"
    model = read_checkpoint(reference, arch=arch, image_size=size, weights="model" if last_step else None)
    if model.classes != classifier.manifest.classes:
        raise CheckpointError(
            f"{reference} has {model.classes} classes, the bundle has {classifier.manifest.classes}",
            "give the checkpoint that the bundle was built from",
        )
    return run_module(model)
