"""How well an engine's answers keep to the labels and to the float model's answers.

Everything is counted as it streams by: memory grows with the number of classes, never with the number of images.

Ties: the class with the lower index comes first, as in a stable sort and in ``numpy.argmax``. (``torch.topk`` promises
no order among equal logits; counts differ from it only where a label's logit equals another's at the boundary.)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgevit.core.errors import CheckpointError, CompileError, DataError, EdgevitError, count_things, format_offenders
from edgevit.core.report.report import Accuracy, ClassChange
from edgevit.core.report.scores import ImageChange
from edgevit.measure.intervals import paired_difference_interval, wilson_interval

OUTPUT = "the output"
"""Name of the level whose SQNR is judged where agreement says nothing."""

_MOST_CHANGES = 12
"""Images of a kind of change that a report lists."""

_Counts: TypeAlias = npt.NDArray[np.int64]


class AccuracyMeter:
    """Counts of right answers, agreement and error, one batch at a time; how images are batched changes nothing.

    Args:
        classes: K, the number of logits.
        labelled: Whether every update brings labels.
        scores: What the logits mean, see :class:`edgevit.core.task.Task`. Of ``sigmoid`` an answer is which labels are
            above 0, and a label of one output is 0 or 1; of ``identity`` there are no answers that could agree.
    """

    def __init__(self, classes: int, *, labelled: bool, scores: str = "softmax") -> None:
        self.images = 0
        self._outputs, self._labelled, self._scores = classes, labelled, scores
        self._answers: set[bytes] = set()  # of the float model, two at most
        self._sum, self._square = np.zeros((2, classes))
        classes = max(2, classes)
        self._classes = classes
        self._agreement = self._top1 = self._top5 = self._reference_top1 = self._reference_top5 = 0
        self._gained = self._lost = 0
        self._changes: list[ImageChange] = []
        self._kinds: Counter[tuple[bool, bool]] = Counter()
        self._noise = NoiseSum()
        self._class_images, self._class_correct, self._class_reference_correct = np.zeros((3, classes), np.int64)

    def update(
        self,
        logits: npt.NDArray[Any],
        reference: npt.NDArray[Any],
        labels: npt.NDArray[Any] | None = None,
        files: Sequence[str] | None = None,
    ) -> None:
        """Count a batch.

        Args:
            logits: ``(B, K)`` the engine's.
            reference: ``(B, K)`` the float model's, for the same images.
            labels: ``(B,)`` class indices, in a labelled meter.
            files: Names for error messages.

        Raises:
            CompileError: The engine gave logits of a wrong shape or that are not finite, for the files listed.
            CheckpointError: The float model did.
            DataError: Labels that are not classes.
            ValueError: Labels missing or not wanted.
        """
        ours = check_answers(logits, (self._outputs,), "the engine", CompileError, files, self.images)
        theirs = check_answers(reference, (self._outputs,), "the float model", CheckpointError, files, self.images)
        check_count(len(ours), len(theirs))
        if (labels is not None) != self._labelled:
            raise ValueError("a labelled meter takes labels with every batch, an unlabelled one takes none")
        first, reference_first = self._answer(ours), self._answer(theirs)
        self._agreement += int((first == reference_first).all(axis=1).sum())
        self._answers |= {row.tobytes() for row in reference_first} if len(self._answers) < 2 else set()
        self._noise.add(theirs, ours)
        if self._scores == "softmax" and files is not None:
            self._list_changes(first[:, 0], reference_first[:, 0], labels, files)
        for row in theirs:
            self._sum += row
            self._square += row**2
        if labels is not None:
            wanted = self._check_labels(labels, len(ours), files)
            rank, reference_rank = (_rank_labels(widen_logits(values), wanted) for values in (ours, theirs))
            self._count_labels(rank, reference_rank, wanted)
        self.images += len(ours)

    def _answer(self, logits: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        """What is compared, ``(B, …)``: the first class, or which labels are there."""
        return logits > 0 if self._scores == "sigmoid" else logits.argmax(axis=1)[:, None]

    def _list_changes(
        self, ours: _Counts, theirs: _Counts, labels: npt.NDArray[Any] | None, files: Sequence[str]
    ) -> None:
        for at in np.flatnonzero(ours != theirs).tolist():
            label = None if labels is None else int(labels[at])
            change = ImageChange(files[at], int(theirs[at]), int(ours[at]), label)
            kind = (change.reference == label, change.answer == label)
            self._kinds[kind] += 1
            if self._kinds[kind] <= _MOST_CHANGES:
                self._changes.append(change)

    def _explain_no_agreement(self, *, alike: bool) -> str:
        if self._scores == "identity":
            why = "the outputs are numbers, which agree or not by degrees: their SQNR"
        elif len(self._answers) > 1 or self.images < 2:
            return ""
        else:
            measures = "agreement and top-1" if self._labelled else "agreement"
            why = (
                f"the float model gives one answer to all {self.images} images, so that {measures} cannot fail: "
                "the SQNR of the outputs"
            )
        return f"{why} is judged, as the images are all alike to it" if alike else f"{why} about their mean is judged"

    def _check_labels(self, labels: npt.NDArray[Any], images: int, files: Sequence[str] | None) -> _Counts:
        wanted = np.asarray(labels).astype(np.int64)
        if wanted.shape != (images,):
            raise ValueError(f"{wanted.shape} labels for {images} images")
        bad = np.flatnonzero((wanted < 0) | (wanted >= self._classes))
        if len(bad):
            names = [f"{_name_image(files, int(i), self.images)}: label {wanted[i]}" for i in bad]
            raise DataError(
                f"{count_things(len(bad), 'label is', 'labels are')} not between 0 and {self._classes - 1}:\n"
                + format_offenders(names),
                "correct the labels, or give the data of this model's classes",
            )
        return wanted

    def _count_labels(self, rank: _Counts, reference_rank: _Counts, wanted: _Counts) -> None:
        right, reference_right = rank == 0, reference_rank == 0
        self._top1 += int(right.sum())
        self._reference_top1 += int(reference_right.sum())
        self._top5 += int((rank < 5).sum())
        self._reference_top5 += int((reference_rank < 5).sum())
        self._gained += int((right & ~reference_right).sum())
        self._lost += int((~right & reference_right).sum())
        np.add.at(self._class_images, wanted, 1)
        np.add.at(self._class_correct, wanted[right], 1)
        np.add.at(self._class_reference_correct, wanted[reference_right], 1)

    def result(self, skipped_images: int = 0) -> Accuracy:
        """The figures so far.

        Raises:
            DataError: No image was counted.
        """
        require_images(self.images)
        common: dict[str, Any] = {
            "images": self.images,
            "labelled": self._labelled,
            "sqnr_db": self._noise.decibels,
            "skipped_images": skipped_images,
            "changed_images": tuple(self._changes),
            **rate_agreement(self._agreement, self.images),
        }
        signal, noise = self._noise.signal, self._noise.noise
        spread = float((self._square - self._sum**2 / self.images).clip(0).sum())
        alike = spread <= 1e-12 * signal  # then there is only the mean
        if no_agreement := self._explain_no_agreement(alike=alike):
            if not self._labelled:
                common |= dict.fromkeys(("agreement", "agreement_low", "agreement_high"))
            common |= {
                "level_sqnr_db": {OUTPUT: decibels(signal if alike else spread, noise)},
                "no_agreement": no_agreement,
            }
        if not self._labelled:
            return Accuracy(**common)
        return Accuracy(
            **common,
            **rate_drop(self._lost, self._gained, self.images),
            top1=self._top1,
            top5=self._top5,
            reference_top1=self._reference_top1,
            reference_top5=self._reference_top5,
            per_class=tuple(
                ClassChange(
                    label=int(k),
                    images=int(self._class_images[k]),
                    reference_correct=int(self._class_reference_correct[k]),
                    correct=int(self._class_correct[k]),
                )
                for k in np.flatnonzero(self._class_correct != self._class_reference_correct)
            ),
        )


class NoiseSum:
    """Σ reference² and Σ (reference − answers)², in float64.

    Added image by image, so that not even rounding depends on the batches.

    Attributes:
        signal: Of all images.
        noise: Of all images.
        noisiest: Place, signal and noise of the image with most noise; ``None`` before the first that has any.
    """

    def __init__(self) -> None:
        self.signal = self.noise = 0.0
        self.noisiest: tuple[int, float, float] | None = None
        self._images = 0

    def add(self, reference: npt.NDArray[Any], answers: npt.NDArray[Any]) -> None:
        """Add a batch, ``(B, …)`` each."""
        axes = tuple(range(1, reference.ndim))
        signals = np.square(reference, dtype=np.float64).sum(axis=axes)
        noises = np.square(reference - answers, dtype=np.float64).sum(axis=axes)
        for signal, noise in zip(signals, noises, strict=True):
            self.signal += float(signal)
            self.noise += float(noise)
            if noise > (self.noisiest[2] if self.noisiest else 0.0):
                self.noisiest = self._images, float(signal), float(noise)
            self._images += 1

    @property
    def decibels(self) -> float | None:
        """See :func:`decibels`."""
        return decibels(self.signal, self.noise)


def decibels(signal: float, noise: float) -> float | None:
    """10·log10(signal / noise); ``None`` where either is 0."""
    return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None


def rate_agreement(agreement: int, images: int) -> dict[str, Any]:
    """Fields of :class:`Accuracy`: the count of agreement, and its interval."""
    low, high = wilson_interval(agreement, images)
    return {"agreement": agreement, "agreement_low": low, "agreement_high": high}


def rate_drop(lost: int, gained: int, images: int) -> dict[str, Any]:
    """Fields of :class:`Accuracy`: the counts of flips, and the drop in points with its interval."""
    low, high = paired_difference_interval(lost, gained, images)
    drop = {"drop_points": 100 * (lost - gained) / images, "drop_low": 100 * low, "drop_high": 100 * high}
    return {"gained": gained, "lost": lost, **drop}


def require_images(images: int) -> None:
    """Raise DataError where no image was counted."""
    if not images:
        raise DataError("accuracy was measured on no images", "give at least one image")


def check_count(answered: int, asked: int) -> None:
    """Raise CompileError where the engine answered another number of images than it was asked for."""
    if answered != asked:
        raise CompileError(f"the engine answered {answered} images of {asked}", "check the engine's batch size")


def widen_logits(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """One output as the second of two classes, whose first has 0."""
    return np.hstack([np.zeros_like(logits), logits]) if logits.shape[1] == 1 else logits


def _rank_labels(logits: npt.NDArray[np.float64], labels: _Counts) -> _Counts:
    """Place of each label's logit in a stable descending sort, ``(B,)``; 0 is first."""
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    place: _Counts = ((logits > own) | ((logits == own) & earlier)).sum(axis=1)
    return place


def check_answers(
    answers: npt.NDArray[Any],
    shape: tuple[int, ...],
    who: str,
    error: type[EdgevitError],
    files: Sequence[str] | None,
    before: int,
) -> npt.NDArray[np.float64]:
    """Answers of ``who``, ``(B, *shape)`` as float64; ``before`` images of the set came before these.

    Raises:
        EdgevitError: ``error``, where the shape is another, or values are not finite, with the names of the files.
    """
    values = np.ascontiguousarray(answers, np.float64)
    if values.shape[1:] != shape or values.ndim != len(shape) + 1:
        wanted = ", ".join(str(side) for side in shape)
        raise error(f"{who} gave answers of shape {values.shape}, not (images, {wanted})", "check the model's outputs")
    bad = np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
    if len(bad):
        names = [_name_image(files, int(i), before) for i in bad]
        raise error(
            f"{who} gave answers that are not finite for {count_things(len(bad), 'image')}:\n{format_offenders(names)}",
            "a range was exceeded: build this precision as fp32"
            if error is CompileError
            else "the checkpoint's weights overflow float32 on these images: train or save it again",
        )
    return values


def _name_image(files: Sequence[str] | None, index: int, before: int) -> str:
    return files[index] if files is not None else f"image {before + index}"
