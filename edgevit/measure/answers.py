"""measure_answers: how well an engine's answers to a set of images keep to the float model's and to the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgevit.core.progress import Progress, ignore_progress
from edgevit.measure.accuracy import AccuracyMeter
from edgevit.measure.embeddings import EmbeddingMeter
from edgevit.measure.features import FeatureMeter
from edgevit.measure.tasks.answer_meter import AnswerMeter
from edgevit.pixels.images import hash_image

if TYPE_CHECKING:
    from edgevit.core.answer import Answer
    from edgevit.core.engine import TensorSpec
    from edgevit.core.report.report import Accuracy
    from edgevit.core.task import Task
    from edgevit.pixels.images import Batch, ImageSet
    from edgevit.pixels.preprocess import Preprocess
    from edgevit.runtime.session import Outputs

Run: TypeAlias = "Callable[[npt.NDArray[np.uint8]], Outputs]"
"""Pixels ``(B, H, W, 3) uint8`` to outputs ``(B, …) float32``; a :meth:`Session.run_outputs` is one."""

_Update: TypeAlias = "Callable[[Outputs, Outputs, Batch], None]"
_Meter: TypeAlias = "AccuracyMeter | AnswerMeter | EmbeddingMeter | FeatureMeter"


def measure_answers(
    run: Run,
    images: ImageSet,
    preprocess: Preprocess,
    task: Task,
    outputs: Sequence[TensorSpec],
    *,
    reference: Run | Outputs | None,
    answer: Answer | None = None,
    batch_size: int = 1,
    progress: Progress = ignore_progress,
    stage: str = "accuracy",
) -> Accuracy:
    """Run an engine over a set of images and count what its task asks for.

    Args:
        run: The engine's.
        images: The set. Without labels, only the float model judges; features have no use for labels.
        preprocess: The model's.
        task: What the answers are.
        outputs: Their names and shapes.
        reference: The float model, or its outputs ``(N, …)`` for the images in the set's order. ``None``: logits are
            held against themselves, so that only the counts of right answers mean anything.
        answer: How outputs become depth, classes, boxes or poses, where they do.
        batch_size: Images a call; the last one may have fewer.
        progress: Told after every batch.
        stage: What ``progress`` calls it.

    Raises:
        CompileError: The engine gave answers of a wrong shape or that are not finite.
        CheckpointError: The float model did.
        DataError: No images, labels that are not classes, or an image that is not there any more.
    """
    if task.name == "embed" and callable(reference):
        # All of the float model's embeddings come first: they are what is searched.
        reference = _run_all(reference, images, preprocess, batch_size, progress)
    if isinstance(reference, tuple) and len(reference[0]) != len(images):
        raise ValueError(f"{len(reference[0])} reference answers for {len(images)} images")
    if answer is not None:
        meter, update = _start_answers(answer, outputs, images, preprocess, compared=reference is not None)
    else:
        meter, update = _start_meter(task, outputs, images, reference)
    progress(stage, 0, len(images))
    for batch in images.batches(preprocess, batch_size):
        answers = run(batch.pixels)
        if isinstance(reference, tuple):
            at = slice(meter.images, meter.images + len(batch.pixels))
            expected = tuple(values[at] for values in reference)
        else:
            expected = answers if reference is None else reference(batch.pixels)
        update(answers, expected, batch)
        progress(stage, meter.images, len(images))
    found = meter.result(skipped_images=len(images.skipped))
    changed = (replace(change, sha256=hash_image(images.root / change.file)) for change in found.changed_images)
    return replace(found, changed_images=tuple(changed))


def _start_answers(
    answer: Answer, outputs: Sequence[TensorSpec], images: ImageSet, preprocess: Preprocess, *, compared: bool
) -> tuple[_Meter, _Update]:
    """The meter of answers in the image's own pixels, which needs the images for their sizes and labels."""
    meter = AnswerMeter(answer, outputs, images, preprocess, compared=compared)
    return meter, lambda found, wanted, batch: meter.update(found, wanted if compared else None, batch.files)


def _start_meter(
    task: Task, outputs: Sequence[TensorSpec], images: ImageSet, reference: Run | Outputs | None
) -> tuple[_Meter, _Update]:
    """The task's meter, and what gives it the answers and the expected ones of a batch."""
    if task.is_dense:
        features = FeatureMeter([spec.name for spec in outputs], task.name)
        return features, lambda found, wanted, batch: features.update(found, wanted, batch.files)
    if task.name == "embed":
        assert isinstance(reference, tuple)
        embeddings = EmbeddingMeter(reference[0], images.labels)
        return embeddings, lambda found, _, batch: embeddings.update(found[0], batch.files)
    labelled, scores = images.labels is not None, task.scores or "softmax"
    logits = AccuracyMeter(int(outputs[0].shape[-1]), labelled=labelled, scores=scores)
    return logits, lambda found, wanted, batch: logits.update(found[0], wanted[0], batch.labels, batch.files)


def _run_all(
    run: Run, images: ImageSet, preprocess: Preprocess, batch_size: int, progress: Progress
) -> tuple[npt.NDArray[Any], ...]:
    found, done = [], 0
    progress("reference", 0, len(images))
    for batch in images.batches(preprocess, batch_size):
        found.append(run(batch.pixels))
        done += len(batch.pixels)
        progress("reference", done, len(images))
    return tuple(np.concatenate(values) for values in zip(*found, strict=True))
