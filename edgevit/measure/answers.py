"""measure_answers: how well an engine's answers to a set of images keep to the float model's and to the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from edgevit.core.progress import Progress, ignore_progress
from edgevit.measure.accuracy import AccuracyMeter
from edgevit.measure.embeddings import EmbeddingMeter
from edgevit.measure.features import FeatureMeter
from edgevit.measure.tasks.answer_meter import AnswerMeter

if TYPE_CHECKING:
    from edgevit.core.answer import Answer
    from edgevit.core.engine import TensorSpec
    from edgevit.core.report.report import Accuracy
    from edgevit.core.task import Task
    from edgevit.pixels.images import ImageSet
    from edgevit.pixels.preprocess import Preprocess
    from edgevit.runtime.session import Outputs

Run: TypeAlias = "Callable[[npt.NDArray[np.uint8]], Outputs]"
"""Pixels ``(B, H, W, 3) uint8`` to outputs ``(B, …) float32``; a :meth:`Session.run_outputs` is one."""

_Update: TypeAlias = "Callable[[Answered], None]"
_Meter: TypeAlias = "AccuracyMeter | AnswerMeter | EmbeddingMeter | FeatureMeter"


class Answered(NamedTuple):
    """What was answered to consecutive images of a set.

    Attributes:
        found: The engine's outputs, ``(B, …)`` each.
        wanted: The float model's; ``None`` where there is none, or where all of them were given beforehand.
        labels: ``(B,) int64``, or ``None`` in an unlabelled set.
        files: The B names.
    """

    found: Outputs
    wanted: Outputs | None
    labels: npt.NDArray[np.int64] | None
    files: tuple[str, ...]


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
        reference = run_all(reference, images, preprocess, batch_size, progress)
    if isinstance(reference, tuple) and len(reference[0]) != len(images):
        raise ValueError(f"{len(reference[0])} reference answers for {len(images)} images")
    return count_answers(
        run_batches(run, reference, images, preprocess, batch_size),
        images,
        preprocess,
        task,
        outputs,
        compared=reference is not None,
        gallery=reference[0] if isinstance(reference, tuple) else None,
        answer=answer,
        progress=progress,
        stage=stage,
    )


def count_answers(
    answered: Iterable[Answered],
    images: ImageSet,
    preprocess: Preprocess,
    task: Task,
    outputs: Sequence[TensorSpec],
    *,
    compared: bool,
    gallery: npt.NDArray[Any] | None = None,
    answer: Answer | None = None,
    progress: Progress = ignore_progress,
    stage: str = "accuracy",
) -> Accuracy:
    """Count what a task asks for, of answers to the images of a set in its order, wherever they come from.

    Args:
        answered: The answers.
        images: The set.
        preprocess: The model's.
        task: What the answers are.
        outputs: Their names and shapes.
        compared: Whether there is a float model.
        gallery: Of embeddings: the float model's ``(N, C)`` to all images, which are what is searched.
        answer: How outputs become depth, classes, boxes or poses, where they do.
        progress: Told after every batch.
        stage: What ``progress`` calls it.

    Raises:
        CompileError, CheckpointError, DataError: As :func:`measure_answers`.
    """
    if answer is not None:
        meter, update = _start_answers(answer, outputs, images, preprocess, compared=compared)
    else:
        meter, update = _start_meter(task, outputs, images, gallery)
    progress(stage, 0, len(images))
    for batch in answered:
        update(batch)
        progress(stage, meter.images, len(images))
    found = meter.result(skipped_images=len(images.skipped))
    changed = (replace(change, sha256=images.hash(change.file)) for change in found.changed_images)
    return replace(found, changed_images=tuple(changed))


def _start_answers(
    answer: Answer, outputs: Sequence[TensorSpec], images: ImageSet, preprocess: Preprocess, *, compared: bool
) -> tuple[_Meter, _Update]:
    """The meter of answers in the image's own pixels, which needs the images for their sizes and labels."""
    meter = AnswerMeter(answer, outputs, images, preprocess, compared=compared)
    return meter, lambda batch: meter.update(batch.found, batch.wanted if compared else None, batch.files)


def _start_meter(
    task: Task, outputs: Sequence[TensorSpec], images: ImageSet, gallery: npt.NDArray[Any] | None
) -> tuple[_Meter, _Update]:
    """The task's meter, and what gives it a batch; without a float model answers are held against themselves."""
    if task.is_dense:
        features = FeatureMeter([spec.name for spec in outputs], task.name)
        return features, lambda batch: features.update(batch.found, batch.wanted or batch.found, batch.files)
    if task.name == "embed":
        assert gallery is not None
        embeddings = EmbeddingMeter(gallery, images.labels)
        return embeddings, lambda batch: embeddings.update(batch.found[0], batch.files)
    labelled, scores = images.labels is not None, task.scores or "softmax"
    logits = AccuracyMeter(int(outputs[0].shape[-1]), labelled=labelled, scores=scores)

    def update(batch: Answered) -> None:
        logits.update(batch.found[0], (batch.wanted or batch.found)[0], batch.labels, batch.files)

    return logits, update


def run_batches(
    run: Run, reference: Run | Outputs | None, images: ImageSet, preprocess: Preprocess, batch_size: int
) -> Iterator[Answered]:
    """The answers of an engine and of a float model on this machine, or of the latter as they were stored."""
    done = 0
    for batch in images.batches(preprocess, batch_size):
        found = run(batch.pixels)
        wanted: Outputs | None = None
        if isinstance(reference, tuple):
            wanted = tuple(values[done : done + len(batch.pixels)] for values in reference)
        elif reference is not None:
            wanted = reference(batch.pixels)
        yield Answered(found, wanted, batch.labels, batch.files)
        done += len(batch.pixels)


def run_all(
    run: Run, images: ImageSet, preprocess: Preprocess, batch_size: int, progress: Progress
) -> tuple[npt.NDArray[Any], ...]:
    """All outputs of a float model, ``(N, …)`` each."""
    found, done = [], 0
    progress("reference", 0, len(images))
    for batch in images.batches(preprocess, batch_size):
        found.append(run(batch.pixels))
        done += len(batch.pixels)
        progress("reference", done, len(images))
    return tuple(np.concatenate(values) for values in zip(*found, strict=True))
