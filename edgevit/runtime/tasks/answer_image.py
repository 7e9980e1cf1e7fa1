"""answer_image: what a whole model's outputs say about one image, in the image's own pixels.

Only numpy and Pillow. :func:`make_inputs` says what the model is shown of an image, which is the whole image unless the
answer is made of several parts of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgevit.core.answer import Answer
from edgevit.core.errors import DataError
from edgevit.pixels.placement import Placement
from edgevit.pixels.preprocess import Preprocess
from edgevit.runtime.tasks.answers import DenseAnswer
from edgevit.runtime.tasks.depth import read_depth
from edgevit.runtime.tasks.detect import read_boxes
from edgevit.runtime.tasks.pose import read_keypoints
from edgevit.runtime.tasks.sample import Floats, make_grid
from edgevit.runtime.tasks.segment import find_tiles, merge_tiles, read_classes, sum_masks

Boxes = npt.NDArray[np.float32]


def make_inputs(
    answer: Answer, preprocess: Preprocess, picture: Image.Image, *, boxes: Boxes | None = None, name: str = "the image"
) -> list[npt.NDArray[np.uint8]]:
    """What the model is shown of an image: ``(height, width, 3) uint8`` each.

    Args:
        answer: Of the bundle.
        preprocess: Likewise.
        picture: As ``decode_image`` gives it.
        boxes: ``(P, 4)`` of people in it, left, top, right and bottom; by default the whole image is one.
        name: What errors call the image.

    Raises:
        DataError: The image is an extreme strip, or the bundle shows no boxes to its model.
    """
    if boxes is not None:
        if preprocess.resize != "warp":
            message = "the bundle's preprocessing takes whole images, and no boxes"
            raise DataError(message, "cut the boxes out of the image", code="argument")
        return [preprocess.fit_box(picture, box) for box in boxes.tolist()]
    if not answer.tiles:
        return [preprocess.fit(picture, name=name)]
    height, width = preprocess.resized_size(picture.height, picture.width, name=name)
    starts = find_tiles(max(height, width), preprocess.height)
    whole = preprocess.fit_whole(picture, name=name)
    side = preprocess.height
    return [whole[at : at + side] if height > width else whole[:, at : at + side] for at in starts]


def answer_image(
    answer: Answer,
    preprocess: Preprocess,
    outputs: Mapping[str, Floats],
    size: tuple[int, int],
    *,
    labels: tuple[str, ...] | None = None,
    boxes: Boxes | None = None,
    threshold: float | None = None,
) -> DenseAnswer:
    """What the outputs say about an image.

    Args:
        answer: How they are read.
        preprocess: How the image became the model's input.
        outputs: By name, ``(n, …) float32``: of each of the inputs that :func:`make_inputs` made of the image.
        size: Height and width of the image.
        labels: Names of the classes or keypoints.
        boxes: Those that :func:`make_inputs` was given.
        threshold: In place of the answer's own.
    """
    sides = preprocess.height, preprocess.width
    read = [outputs[name] for name in answer.outputs]
    if answer.form == "heatmaps":
        whole = np.array([[0, 0, size[1], size[0]]], np.float32)
        asked = whole if boxes is None else boxes
        return read_keypoints(
            read[0],
            asked,
            sides,
            placement=None if preprocess.resize == "warp" else preprocess.place(*size),
            kernel=answer.kernel,
            labels=labels,
            edges=answer.edges,
        )
    placement = preprocess.place(*size)
    if answer.form == "boxes":
        least = answer.threshold if threshold is None else threshold
        return read_boxes(
            read[0][0], read[1][0], placement, sides, scores=answer.scores, threshold=least, labels=labels
        )
    if answer.form == "depth":
        grid = make_grid(size, placement, sides, (read[0].shape[-2], read[0].shape[-1]))
        return read_depth(read[0][0], grid, metric=answer.metric)
    if answer.form == "class_maps":
        maps = np.ascontiguousarray(read[0][0].transpose(1, 2, 0))
    elif answer.tiles:
        maps, placement, sides = _join_tiles(answer, preprocess, read, size)
    else:
        maps = sum_masks(read[0][0], read[1][0], _need_size(answer))
    return read_classes(maps, make_grid(size, placement, sides, (maps.shape[0], maps.shape[1])), labels)


def _join_tiles(
    answer: Answer, preprocess: Preprocess, read: Sequence[Floats], size: tuple[int, int]
) -> tuple[Floats, Placement, tuple[int, int]]:
    """The maps of the resized image, where the image lies in them, and their height and width."""
    height, width = preprocess.resized_size(*size)
    starts = find_tiles(max(height, width), preprocess.height)
    tiles = [sum_masks(queries, masks, _need_size(answer)) for queries, masks in zip(*read, strict=True)]
    maps = merge_tiles(tiles, starts, (height, width))
    return maps, Placement((width / size[1], height / size[0]), (0.0, 0.0)), (height, width)


def _need_size(answer: Answer) -> tuple[int, int]:
    assert answer.mask_size is not None  # an Answer of masks has one
    return answer.mask_size
