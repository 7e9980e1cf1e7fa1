"""Accuracy of a bundle on images, and its agreement with the float model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.core.errors import DataError
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.report.report import Accuracy, DataUse
from edgevit.core.task import DENSE_TASKS
from edgevit.measure.accuracy import widen_logits
from edgevit.measure.chance import find_doubt
from edgevit.measure.figure_change import FigureChange, compare_figures

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgevit.measure.answer_source import AnswerSource, Question
    from edgevit.measure.answers import Answered
    from edgevit.pixels.images import ImageSet
    from edgevit.runtime.canary import CanaryCheck, Check

BATCH = 16
"""Images decoded at a time; a session splits them by what its engine takes."""


@dataclass(frozen=True)
class Evaluation:
    """What a bundle answered.

    Attributes:
        top1: Images whose label came first; ``None`` without labels, and for other tasks than ``classify``.
        top5: Images whose label was among the first five.
        accuracy: The same compared with the float model; ``None`` without a reference.
        task_figures: Of depth, segment, detect and pose, all figures, with those against labels also where there is no
            reference; see :mod:`edgevit.core.report.task_figures`.
        reference: The checkpoint that was compared with.
        canary: Whether the engine answers here, or on the device, as where the bundle was judged.
        changes: What was found beside what the bundle says of itself, of a classifier.
        doubts: What speaks against the labels or the answers, a warning each.
    """

    bundle: str
    data: DataUse
    top1: int | None
    top5: int | None
    accuracy: Accuracy | None
    reference: str | None
    canary: CanaryCheck
    changes: tuple[FigureChange, ...] = ()
    doubts: tuple[str, ...] = ()
    task_figures: Mapping[str, float] = field(default_factory=dict)


def evaluate_bundle(
    bundle: str | Path,
    data: str | Path,
    *,
    reference: str | Path | None = None,
    arch: str | None = None,
    skip_bad_images: bool = False,
    open_with: Callable[[str | Path], AbstractContextManager[Any]] | None = None,
    answer_with: Callable[[Question], AbstractContextManager[AnswerSource]] | None = None,
    check: Check = "auto",
    public_key: str | os.PathLike[str] | None = None,
    progress: Progress = ignore_progress,
) -> Evaluation:
    """Run a bundle over images.

    Args:
        bundle: The folder.
        data: A folder per class, a CSV, tar or parquet files; see :meth:`edgevit.pixels.images.ImageSet.read`. For
            depth, segment, detect and pose as :func:`edgevit.pixels.answered_set.read_answered` takes it.
        reference: The checkpoint that the bundle was built from, to compare every answer with its float module's. Needs
            the extra ``build``; without it, only labels judge.
        arch: Architecture of the reference, where it is a file of bare weights.
        skip_bad_images: Go on without images that cannot be read.
        check: Whether the bundle's canary is answered first, where it is opened here; see
            :func:`edgevit.runtime.open_bundle`.
        public_key: Of whoever has to have signed the bundle, as ``check``.
        open_with: Opens the bundle elsewhere, as :func:`edgevit.remote.answers.open_on` does; here by default.
        answer_with: Has all images answered elsewhere, as :func:`edgevit.remote.sweep.evaluate_on.evaluate_on` does.
        progress: Told after every batch.

    Raises:
        BundleError: The bundle is damaged, portable, or not signed with that key.
        DataError: The bundle's preprocessing was assumed; bad images; or neither labels nor a reference to judge by:
            embeddings and features are judged only by a reference.
        CheckpointError: The reference cannot be read, or answers in another form.
    """
    from edgevit.measure.answer_source import Question
    from edgevit.measure.answers import count_answers
    from edgevit.pixels.answered_set import LABELLED_FORMS, read_answered
    from edgevit.pixels.class_names import expect_labels
    from edgevit.pixels.images import ImageSet
    from edgevit.runtime.bundle import load_bundle

    # Before the bundle is opened, which on a device may mean to install everything there.
    loaded = load_bundle(bundle, public_key=public_key)
    manifest = loaded.manifest
    task = manifest.task
    if manifest.assumed:
        raise DataError(
            f"images are given, and nothing said how {bundle} wants them when it was built: "
            f"{', '.join(manifest.assumed)}",
            f"build it again with {' '.join(f'--{name}' for name in manifest.assumed)}, or with its "
            "preprocessor_config.json or timm's config.json beside the ONNX file",
        )
    expected = expect_labels(manifest.scores, manifest.labels, manifest.classes)
    if manifest.answer is not None:
        kind, classes = manifest.answer.task, manifest.answer.count_classes(manifest.outputs)
        images = read_answered(data, kind, labels=manifest.labels, classes=classes, skip_bad=skip_bad_images)
        if not images.labelled and reference is None:
            raise DataError(
                f"{data} says nothing of what the images show, and there is no reference: nothing can be counted",
                f"give {LABELLED_FORMS[kind]}, or --reference CHECKPOINT",
            )
    else:
        images = ImageSet.read(data, **expected, skip_bad=skip_bad_images)
    if task != "classify" and reference is None and manifest.answer is None:
        raise DataError(
            f"{bundle} gives {'an embedding' if task == 'embed' else task}, which labels by themselves do not judge",
            "give --reference CHECKPOINT, the one that it was built from",
        )
    if not images.labelled and reference is None:
        if not expected.get("labelled", True):
            what = "numbers" if manifest.scores == "identity" else "labels that are there or not by themselves"
            raise DataError(
                f"{bundle} gives {what}, which a class an image does not judge",
                "give --reference CHECKPOINT, the one that it was built from",
            )
        raise DataError(
            f"{data} has no labels and there is no reference: nothing can be counted",
            "give labelled images (a folder per class, or a CSV with a column label), or --reference CHECKPOINT",
        )
    question = Question(loaded, reference, arch, check, public_key)
    with answer_with(question) if answer_with else _open(question, open_with, progress) as source:
        images = source.check(images, skip_bad=skip_bad_images)
        use = DataUse(
            path=str(data),
            images=len(images),
            labelled=images.labelled,
            sha256=source.hash(images),
            skipped_images=len(images.skipped),
            skipped=tuple(images.list_skipped()),
            matching=images.describe_labels(),
        )
        batch_size = 1 if task in DENSE_TASKS else BATCH  # maps are large
        gallery = source.gallery(images, batch_size) if task == "embed" else None
        answered = source.answer(images, batch_size, compare=reference is not None and gallery is None)
        first: list[npt.NDArray[np.int64]] = []
        result = count_answers(
            _note_first(answered, first) if task == "classify" else answered,
            images,
            manifest.preprocess,
            manifest.read_task(),
            manifest.outputs,
            compared=reference is not None,
            gallery=gallery,
            answer=manifest.answer,
            progress=progress,
        )
        canary, warnings = source.canary, source.doubts
    compared = None if reference is None else result
    top1, top5 = (result.top1, result.top5) if task == "classify" else (None, None)
    changes: tuple[FigureChange, ...] = ()
    if task == "classify":
        counts = {"top1_percent": top1, "agreement_percent": compared.agreement if compared is not None else None}
        changes = compare_figures(counts, len(images), manifest.figures)
    named = None if reference is None else str(reference)
    doubts = _list_doubts(images, np.concatenate(first), max(2, manifest.classes)) if first else ()
    doubts += warnings
    return Evaluation(
        str(bundle), use, top1, top5, compared, named, canary, changes, doubts, task_figures=result.task_figures
    )


@contextlib.contextmanager
def _open(
    question: Question, open_with: Callable[[str | Path], AbstractContextManager[Any]] | None, progress: Progress
) -> Iterator[AnswerSource]:
    """The bundle, opened here or as ``open_with`` does it."""
    from edgevit.measure.answer_source import OpenedBundle
    from edgevit.runtime import open_bundle

    path = question.bundle.path
    opened = open_with(path) if open_with else open_bundle(path, check=question.check, public_key=question.public_key)
    with opened as predictor:
        yield OpenedBundle(predictor, question.reference, question.arch, progress)


def _note_first(answered: Iterable[Answered], first: list[npt.NDArray[np.int64]]) -> Iterator[Answered]:
    """The same answers; ``first`` gets the class that each image was given."""
    for batch in answered:
        if batch.found[0].ndim == 2:
            first.append(widen_logits(batch.found[0].astype(np.float64)).argmax(axis=1))
        yield batch


def _list_doubts(images: ImageSet, answers: npt.NDArray[np.int64], classes: int) -> tuple[str, ...]:
    """That the answers fit the labels no better than chance, or other numbers far better."""
    if images.labels is None:
        return ()
    labels = np.asarray(images.labels, np.int64)
    doubt = find_doubt(answers, labels, classes, "the bundle", "", images.describe_labels())
    return () if doubt is None else ("; ".join(doubt),)
