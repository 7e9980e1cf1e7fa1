"""AnswerMeter: the figures of a whole model whose outputs become depth, classes, boxes or poses."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from edgevit.core.errors import CompileError
from edgevit.core.report.scores import Accuracy
from edgevit.core.report.task_figures import KEPT_FIGURES, REFERENCE
from edgevit.measure.accuracy import check_answers, check_count, require_images
from edgevit.measure.features import FeatureMeter
from edgevit.measure.tasks.depth import DepthAgreement, DepthMeter
from edgevit.measure.tasks.detection import DetectionAgreement, DetectionMeter
from edgevit.measure.tasks.pose import SEEN, PoseAgreement, PoseMeter, join_poses
from edgevit.measure.tasks.segmentation import SegmentationAgreement, SegmentationMeter
from edgevit.pixels.decode import read_size
from edgevit.pixels.map_set import MapTruths
from edgevit.runtime.tasks.answer_image import answer_image

if TYPE_CHECKING:
    from edgevit.core.answer import Answer
    from edgevit.core.engine import TensorSpec
    from edgevit.core.task import TaskName
    from edgevit.pixels.images import ImageSet
    from edgevit.pixels.preprocess import Preprocess
    from edgevit.pixels.truths import Truth
    from edgevit.runtime.session import Outputs
    from edgevit.runtime.tasks.answers import DenseAnswer


class TaskMeter(Protocol):
    """Figures of one task, counted image by image."""

    def update(self, found: Any, wanted: Any) -> None:
        """Count an image: the answer, and what is right."""
        ...

    def result(self) -> dict[str, float]:
        """The figures so far, by their keys; none where nothing could be judged."""
        ...


class AnswerMeter:
    """Figures against the float model and against labels, one batch at a time, with the SQNR of the outputs.

    What is judged is what the engine's input shows of an image, as the predictor reads it; of a model that takes
    several squares of an image, the one in its middle. Boxes count with any score, as AP looks at all of them.

    Args:
        answer: How outputs become answers.
        outputs: Names and shapes.
        images: The set; where it has truths, its labels are counted.
        preprocess: From images to the input.
        compared: Whether the updates bring the float model's outputs.

    Raises:
        MissingPackageError: AP is to be counted, and pycocotools is not installed.
    """

    def __init__(
        self,
        answer: Answer,
        outputs: Sequence[TensorSpec],
        images: ImageSet,
        preprocess: Preprocess,
        *,
        compared: bool,
    ) -> None:
        self.images = 0
        self._answer = dataclasses.replace(answer, tiles=False)
        self._names = [spec.name for spec in outputs]
        self._shapes = [tuple(spec.shape[1:]) for spec in outputs]
        self._set, self._preprocess = images, preprocess
        self._noise = FeatureMeter(self._names, answer.task) if compared else None
        self._agreement = _start_agreement(answer, outputs) if compared else None
        labelled = images.truths is not None
        self._right = _start_meter(answer, outputs, images) if labelled else None
        self._reference_right = _start_meter(answer, outputs, images) if labelled and compared else None
        self._people: list[tuple[str, DenseAnswer, DenseAnswer | None, Truth]] = []

    def update(self, found: Outputs, reference: Outputs | None, files: Sequence[str]) -> None:
        """Count a batch: the next images of the set, in its order.

        Args:
            found: The engine's outputs, ``(B, …)`` each.
            reference: The float model's for the same images; ``None`` in a meter that does not compare.
            files: Names of the images.

        Raises:
            CompileError: The engine gave outputs of a wrong shape or that are not finite.
            CheckpointError: The float model's are not finite.
            DataError: A map cannot be read any more.
        """
        if self._noise is not None and reference is not None:
            self._noise.update(found, reference, files)
        else:
            for name, values, shape in zip(self._names, found, self._shapes, strict=True):
                sides = cast("tuple[int, ...]", shape)
                check_answers(values, sides, f"the engine's {name}", CompileError, files, self.images)
                check_count(len(values), len(files))
        for row, file in enumerate(files):
            ours = self._read(found, row, file)
            theirs = None if reference is None or self._agreement is None else self._read(reference, row, file)
            if self._agreement is not None:
                self._agreement.update(ours, theirs)
            if self._right is not None and self._set.truths is not None:
                self._judge(file, ours, theirs, self._set.truths.read(self.images))
            self.images += 1

    def _read(self, outputs: Outputs, row: int, file: str) -> DenseAnswer:
        """The answer to an image, in its own pixels."""
        own = {name: np.asarray(values[row : row + 1]) for name, values in zip(self._names, outputs, strict=True)}
        size = read_size(self._set.fetch(file), name=file)
        boxes = None if self._set.boxes is None else np.array([self._set.boxes[self.images]], np.float32)
        return answer_image(self._answer, self._preprocess, own, size, boxes=boxes, threshold=0.0)

    def _judge(self, file: str, ours: DenseAnswer, theirs: DenseAnswer | None, truth: Truth) -> None:
        """Against labels. All people of an image are judged together, as one may be found in place of another."""
        if self._set.boxes is None:
            self._count(ours, theirs, truth)
            return
        if self._people and self._people[0][0] != file:
            self._count_people()
        self._people.append((file, ours, theirs, truth))

    def _count_people(self) -> None:
        people, self._people = self._people, []
        if people:
            self._count(*(join_poses(column) for column in list(zip(*people, strict=True))[1:]))

    def _count(self, ours: Any, theirs: Any, truth: Any) -> None:
        assert self._right is not None
        self._right.update(ours, truth)
        if self._reference_right is not None:
            self._reference_right.update(theirs, truth)

    def result(self, skipped_images: int = 0) -> Accuracy:
        """The figures so far.

        Raises:
            DataError: No image was counted.
        """
        require_images(self.images)
        self._count_people()
        figures: dict[str, float] = {}
        for meter, beginning in ((self._agreement, ""), (self._right, ""), (self._reference_right, REFERENCE)):
            if meter is not None:
                figures |= {beginning + name: value for name, value in meter.result().items()}
        task = self._answer.task
        unknown = self._agreement is not None and KEPT_FIGURES[task] not in figures
        found = (
            Accuracy(self.images, False, None, None, None, task=task, skipped_images=skipped_images)
            if self._noise is None
            else self._noise.result(skipped_images)
        )
        return dataclasses.replace(
            found,
            labelled=self._right is not None,
            task_figures=figures,
            no_agreement=f"{self._explain(task)}: only the SQNR of the outputs is judged" if unknown else "",
        )

    def _explain(self, task: TaskName) -> str:
        """Why there is no figure against the float model."""
        if task == "detect":
            return f"the float model finds nothing with a score above {self._answer.threshold:g}"
        if task == "pose":
            return f"the float model sees no keypoint with a score of {SEEN:g} or more"
        return "the float model's maps are empty"


def _start_agreement(answer: Answer, outputs: Sequence[TensorSpec]) -> TaskMeter:
    if answer.task == "depth":
        return DepthAgreement()
    if answer.task == "segment":
        return SegmentationAgreement(answer.count_classes(outputs) or 0)
    return DetectionAgreement(answer.threshold) if answer.task == "detect" else PoseAgreement()


def _start_meter(answer: Answer, outputs: Sequence[TensorSpec], images: ImageSet) -> TaskMeter:
    if answer.task == "depth":
        return DepthMeter(images.truths.form.farthest if isinstance(images.truths, MapTruths) else None)
    if answer.task == "segment":
        return SegmentationMeter(answer.count_classes(outputs) or 0)
    return DetectionMeter() if answer.task == "detect" else PoseMeter(answer.count_classes(outputs) or 0)
