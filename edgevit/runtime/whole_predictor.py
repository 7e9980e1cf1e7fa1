"""WholePredictor: the methods of an opened bundle that give depth, classes of pixels, boxes or poses."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from edgevit.core.answer import Answer
from edgevit.core.errors import BundleError, DataError, DeviceError
from edgevit.core.task import WHOLE_TASKS
from edgevit.pixels.decode import ImageSource, decode_image, name_source
from edgevit.pixels.preprocess import Preprocess
from edgevit.runtime.manifest import Manifest
from edgevit.runtime.session import Outputs, Session
from edgevit.runtime.tasks.answer_image import Boxes, answer_image, make_inputs
from edgevit.runtime.tasks.answers import DenseAnswer, Depth, Detections, Poses, Segmentation


@contextmanager
def tell_memory() -> Iterator[None]:
    """What Python or a library says where memory is refused, as an error of ours."""
    try:
        yield
    except MemoryError as exc:
        raise DeviceError("there is too little memory", "free some, or take smaller images or fewer at a time") from exc


class WholePredictor(ABC):
    """What an opened bundle of a whole model answers; see :class:`edgevit.runtime.predictor.Predictor`."""

    manifest: Manifest
    _session: Session

    @property
    @abstractmethod
    def preprocess(self) -> Preprocess:
        """From an image to the engine's input."""

    @abstractmethod
    def _require(self, *tasks: str) -> None: ...

    @abstractmethod
    def _compute(self, images: Iterable[ImageSource], bgr: bool, *, listed: bool) -> Outputs: ...

    def outputs(self, image: ImageSource, *, bgr: bool = False) -> dict[str, npt.NDArray[np.float32]]:
        """All that a whole model gives for an image, by name and without the axis of images.

        The names and shapes are those of ``manifest.outputs``; arguments and errors as :meth:`depth`.
        """
        self._require(*WHOLE_TASKS)
        return self._name_outputs(values[0] for values in self._compute((image,), bgr, listed=False))

    def outputs_batch(self, images: Iterable[ImageSource], *, bgr: bool = False) -> dict[str, npt.NDArray[np.float32]]:
        """As :meth:`outputs`, of any number of images, each of its own size: ``(images, …)`` by name."""
        self._require(*WHOLE_TASKS)
        return self._name_outputs(self._compute(images, bgr, listed=True))

    def depth(self, image: ImageSource, *, bgr: bool = False) -> Depth:
        """How far away every pixel of an image is.

        Args:
            image: A path, the bytes of a file, a Pillow image, or an array: ``(H, W, 3) uint8`` in RGB order,
                ``(H, W, 4)`` with transparency, which is dropped, or ``(H, W)`` in grey. Of a file, pixels are counted
                once it stands upright.
            bgr: An array is in OpenCV's order.

        Raises:
            BundleError: The bundle is for another task.
            DataError: The image cannot be decoded.
            DeviceError: The engine failed, or gave values that are not numbers.
        """
        return cast(Depth, self._answer("depth", image, bgr))

    def depth_batch(self, images: Iterable[ImageSource], *, bgr: bool = False) -> list[Depth]:
        """As :meth:`depth`, of any number of images, each of its own size."""
        return cast(list[Depth], self._answer_all("depth", images, bgr))

    def segment(self, image: ImageSource, *, bgr: bool = False) -> Segmentation:
        """What every pixel of an image belongs to; arguments and errors as :meth:`depth`."""
        return cast(Segmentation, self._answer("segment", image, bgr))

    def segment_batch(self, images: Iterable[ImageSource], *, bgr: bool = False) -> list[Segmentation]:
        """As :meth:`segment`, of any number of images, each of its own size."""
        return cast(list[Segmentation], self._answer_all("segment", images, bgr))

    def detect(self, image: ImageSource, threshold: float | None = None, *, bgr: bool = False) -> Detections:
        """What is where in an image.

        Args:
            image: As :meth:`depth` takes it.
            threshold: What a score has to be above; by default as the bundle's ``answer`` says.
            bgr: An array is in OpenCV's order.

        Raises:
            As :meth:`depth`.
        """
        return cast(Detections, self._answer("detect", image, bgr, threshold=threshold))

    def detect_batch(
        self, images: Iterable[ImageSource], threshold: float | None = None, *, bgr: bool = False
    ) -> list[Detections]:
        """As :meth:`detect`, of any number of images, each of its own size."""
        return cast(list[Detections], self._answer_all("detect", images, bgr, threshold=threshold))

    def pose(self, image: ImageSource, boxes: Any = None, *, bgr: bool = False) -> Poses:
        """The keypoints of people in an image.

        Args:
            image: As :meth:`depth` takes it.
            boxes: ``(P, 4)`` numbers, left, top, right and bottom of every person; by default the whole image is one.
            bgr: An array is in OpenCV's order.

        Raises:
            As :meth:`depth`.
        """
        return cast(Poses, self._answer("pose", image, bgr, boxes=boxes))

    def pose_batch(
        self, images: Iterable[ImageSource], boxes: Sequence[Any] | None = None, *, bgr: bool = False
    ) -> list[Poses]:
        """As :meth:`pose`, of any number of images, each of its own size, with the boxes of each."""
        listed = list(check_list(images))
        if boxes is not None and len(boxes) != len(listed):
            message = f"there are boxes of {len(boxes)} images, and {len(listed)} images"
            raise DataError(message, "give a list of boxes for every image", code="argument")
        asked = [None] * len(listed) if boxes is None else boxes
        return [
            cast(Poses, self._answer("pose", image, bgr, boxes=own, name=name_listed(index, image)))
            for index, (image, own) in enumerate(zip(listed, asked, strict=True))
        ]

    def _answer_all(
        self, task: str, images: Iterable[ImageSource], bgr: bool, *, threshold: float | None = None
    ) -> list[DenseAnswer]:
        return [
            self._answer(task, image, bgr, threshold=threshold, name=name_listed(index, image))
            for index, image in enumerate(check_list(images))
        ]

    @tell_memory()
    def _answer(
        self,
        task: str,
        image: ImageSource,
        bgr: bool,
        *,
        threshold: float | None = None,
        boxes: Any = None,
        name: str | None = None,
    ) -> DenseAnswer:
        self._require(task)
        answer = self._read_answer()
        picture = decode_image(image, name=name, bgr=bgr)
        asked = None if boxes is None else _check_boxes(boxes)
        inputs = make_inputs(answer, self.preprocess, picture, boxes=asked, name=name or name_source(image))
        outputs = self._run_inputs(inputs)
        size = picture.height, picture.width
        labels = self.manifest.labels
        return answer_image(answer, self.preprocess, outputs, size, labels=labels, boxes=asked, threshold=threshold)

    def _run_inputs(self, inputs: Sequence[npt.NDArray[np.uint8]]) -> dict[str, npt.NDArray[np.float32]]:
        if not inputs:
            return self._name_outputs(
                np.zeros((0, *map(int, spec.shape[1:])), np.float32) for spec in self.manifest.outputs
            )
        found = self._session.run_outputs(np.stack(inputs))
        check_finite(found)
        return self._name_outputs(found)

    def _read_answer(self) -> Answer:
        if self.manifest.answer is None:
            raise BundleError(f"the bundle of {self.manifest.name} says nothing of its answers", "build it again")
        return self.manifest.answer

    def _name_outputs(self, outputs: Iterable[npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.float32]]:
        return dict(zip((spec.name for spec in self.manifest.outputs), outputs, strict=True))


def _check_boxes(boxes: Any) -> Boxes:
    try:
        found = np.asarray(boxes, np.float32).reshape(-1, 4)
    except (TypeError, ValueError) as exc:
        message = f"boxes are not lists of four numbers: {exc}"
        raise DataError(message, "give left, top, right and bottom of each", code="argument") from exc
    if not np.isfinite(found).all() or (found[:, 2:] <= found[:, :2]).any():
        message = "a box has no width or height, or a number that is not finite"
        raise DataError(message, "give left, top, right and bottom of each, in pixels", code="argument")
    return found


def check_finite(outputs: Outputs) -> None:
    """Refuse an engine's outputs that are not numbers.

    Raises:
        DeviceError: Some are not.
    """
    if not all(np.isfinite(values).all() for values in outputs):
        raise DeviceError("the engine gave values that are not finite numbers", "run `edgevit eval` on the bundle")


def check_list(images: Iterable[ImageSource]) -> Iterator[ImageSource]:
    """The images one after the other. One image would be iterated over too: its rows, or the letters of its path.

    Raises:
        DataError: It is one image.
    """
    one = isinstance(images, str | bytes | os.PathLike) or (isinstance(images, np.ndarray) and images.ndim != 4)
    if one or not isinstance(images, Iterable):
        message = f"{type(images).__name__} is not a list of images"
        raise DataError(message, "give one image as [image]", code="argument")
    return iter(images)


def name_listed(index: int, image: ImageSource) -> str:
    """What errors call an image of a list."""
    return name_source(image) if isinstance(image, str | os.PathLike) else f"image {index} of the list"
