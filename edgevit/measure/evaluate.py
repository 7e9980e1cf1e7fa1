"""Accuracy of a bundle on images, and its agreement with the float model."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.core.errors import CheckpointError, DataError
from edgevit.core.progress import Progress, ignore_progress
from edgevit.core.report.report import Accuracy, DataUse
from edgevit.core.task import DENSE_TASKS
from edgevit.measure.accuracy import widen_logits
from edgevit.measure.chance import find_doubt
from edgevit.measure.figure_change import FigureChange, compare_figures

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from edgevit.checkpoints.texts.label_texts import LabelTexts
    from edgevit.measure.answers import Run
    from edgevit.pixels.images import ImageSet
    from edgevit.runtime import Predictor
    from edgevit.runtime.canary import CanaryCheck, Check
    from edgevit.runtime.manifest import Manifest
    from edgevit.runtime.session import Outputs

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
        doubts: What speaks against the labels, a warning each.
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
    check: Check = "auto",
    public_key: str | os.PathLike[str] | None = None,
    progress: Progress = ignore_progress,
) -> Evaluation:
    """Run a bundle over images.

    Args:
        bundle: The folder.
        data: A folder per class, or a CSV; see :meth:`edgevit.pixels.images.ImageSet.read`. For depth, segment, detect
            and pose as :func:`edgevit.pixels.answered_set.read_answered` takes it.
        reference: The checkpoint that the bundle was built from, to compare every answer with its float module's. Needs
            the extra ``build``; without it, only labels judge.
        arch: Architecture of the reference, where it is a file of bare weights.
        skip_bad_images: Go on without images that cannot be read.
        check: Whether the bundle's canary is answered first, where it is opened here; see
            :func:`edgevit.runtime.open_bundle`.
        public_key: Of whoever has to have signed the bundle, as ``check``.
        open_with: Opens the bundle elsewhere, as :func:`edgevit.remote.answers.open_on` does; here by default.
        progress: Told after every batch.

    Raises:
        BundleError: The bundle is damaged, portable, or not signed with that key.
        DataError: The bundle's preprocessing was assumed; bad images; or neither labels nor a reference to judge by:
            embeddings and features are judged only by a reference.
        CheckpointError: The reference cannot be read, or answers in another form.
    """
    from edgevit.measure.answers import measure_answers
    from edgevit.pixels.answered_set import LABELLED_FORMS, read_answered
    from edgevit.pixels.class_names import expect_labels
    from edgevit.pixels.images import ImageSet
    from edgevit.runtime import open_bundle
    from edgevit.runtime.bundle import load_bundle

    # Before the bundle is opened, which on a device may mean to install everything there.
    manifest = load_bundle(bundle, public_key=public_key).manifest
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
    opened = open_with(bundle) if open_with else open_bundle(bundle, check=check, public_key=public_key)
    with opened as predictor:
        images = images.check(
            skip_bad=skip_bad_images,
            preprocess=predictor.preprocess,
            progress=lambda done, total: progress("check images", done, total),
        )
        use = DataUse(
            path=str(data),
            images=len(images),
            labelled=images.labelled,
            sha256=images.sha256(),
            skipped_images=len(images.skipped),
            skipped=tuple(images.list_skipped()),
            matching=images.describe_labels(),
        )
        run_reference = None if reference is None else _open_reference(reference, arch, predictor)
        first: list[npt.NDArray[np.int64]] = []

        def run(pixels: npt.NDArray[np.uint8]) -> Outputs:
            found: Outputs = predictor.run_outputs(pixels)
            if task == "classify" and found[0].ndim == 2:
                first.append(widen_logits(found[0].astype(np.float64)).argmax(axis=1))
            return found

        result = measure_answers(
            run,
            images,
            predictor.preprocess,
            manifest.read_task(),
            predictor.manifest.outputs,
            reference=run_reference,
            answer=manifest.answer,
            batch_size=1 if task in DENSE_TASKS else BATCH,  # maps are large
            progress=progress,
        )
        canary = predictor.canary
    compared = None if reference is None else result
    top1, top5 = (result.top1, result.top5) if task == "classify" else (None, None)
    changes: tuple[FigureChange, ...] = ()
    if task == "classify":
        counts = {"top1_percent": top1, "agreement_percent": compared.agreement if compared is not None else None}
        changes = compare_figures(counts, len(images), manifest.figures)
    named = None if reference is None else str(reference)
    doubts = _list_doubts(images, np.concatenate(first), max(2, manifest.classes)) if first else ()
    return Evaluation(
        str(bundle), use, top1, top5, compared, named, canary, changes, doubts, task_figures=result.task_figures
    )


def _list_doubts(images: ImageSet, answers: npt.NDArray[np.int64], classes: int) -> tuple[str, ...]:
    """That the answers fit the labels no better than chance, or other numbers far better."""
    if images.labels is None:
        return ()
    labels = np.asarray(images.labels, np.int64)
    doubt = find_doubt(answers, labels, classes, "the bundle", "", images.describe_labels())
    return () if doubt is None else ("; ".join(doubt),)


def _open_reference(reference: str | Path, arch: str | None, predictor: Predictor) -> Run:
    """The checkpoint's float module, for the bundle's own preprocessed pixels and its task."""
    from edgevit.checkpoints import read_checkpoint
    from edgevit.measure.reference import run_outputs
    from edgevit.models.select_task import select_task

    size = (predictor.preprocess.height, predictor.preprocess.width)
    manifest = predictor.manifest
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
        model = dataclasses.replace(model, preprocess=predictor.preprocess, assumed=())
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
    return run_outputs(model)


def _recall_texts(manifest: Manifest) -> LabelTexts | None:
    """The labels' texts that the bundle's head was made of."""
    from edgevit.checkpoints.texts.label_texts import read_label_texts

    templates, labels = manifest.templates, manifest.labels
    return read_label_texts(labels, templates) if templates and labels else None


def _show(outputs: list[tuple[str, tuple[int | str, ...]]]) -> str:
    return ", ".join(f"{name} of {' × '.join(str(side) for side in shape)}" for name, shape in outputs)
