"""Classes of pixels from maps of classes or from masks, as transformers' ``post_process_semantic_segmentation``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgevit.core.errors import DataError
from edgevit.runtime.tasks.answers import Segmentation
from edgevit.runtime.tasks.sample import Floats, Grid, resize, sample_strips

_MOST_TILES = 16


def read_classes(maps: Floats, grid: Grid, labels: tuple[str, ...] | None) -> Segmentation:
    """The class of every pixel of an image: maps are resized, then the largest counts.

    Args:
        maps: ``(h, w, C)``.
        grid: Where the image lies in them.
        labels: Names of the classes.

    Returns:
        With -1 where the model did not see the image.
    """
    classes = np.empty(grid.shape, np.int32)
    for rows, strip in sample_strips(maps, grid):
        classes[rows] = strip.argmax(axis=2)
    classes[~grid.seen[0]] = -1
    classes[:, ~grid.seen[1]] = -1
    return Segmentation(classes, labels)


def sum_masks(queries: Floats, masks: Floats, size: tuple[int, int]) -> Floats:
    """How much every class is at every place: the masks of all queries, weighted by their classes.

    Args:
        queries: ``(Q, C + 1)`` logits, the last class of which is none.
        masks: ``(Q, h, w)`` logits.
        size: Height and width that masks are resized to before.

    Returns:
        ``(height, width, C)``.
    """
    shifted = np.exp(queries - queries.max(axis=1, keepdims=True))
    classes = (shifted / shifted.sum(axis=1, keepdims=True))[:, :-1]
    resized = resize(np.ascontiguousarray(masks.transpose(1, 2, 0)), size)
    with np.errstate(over="ignore"):  # of exp(100), whose inverse is 0 as it should be
        shares = np.float32(1) / (np.float32(1) + np.exp(-resized))
    maps: Floats = shares @ classes
    return maps


def find_tiles(long: int, short: int) -> list[int]:
    """Where the squares begin that cover an image's long side: as many as are needed, overlapping alike.

    Raises:
        DataError: They would be more than sixteen: the image is an extreme strip.
    """
    count = math.ceil(long / short)
    if count > _MOST_TILES:
        raise DataError(
            f"the image would need {count} squares, and {_MOST_TILES} are the most",
            "crop the image to a less extreme aspect ratio",
            code="image",
        )
    overlap = (count * short - long) / (count - 1) if count > 1 else 0
    return [int(i * (short - overlap)) for i in range(count)]


def merge_tiles(tiles: Sequence[Floats], starts: Sequence[int], size: tuple[int, int]) -> Floats:
    """The mean of overlapping squares, ``(h, w, C)`` each, along the longer of an image's sides: ``(H, W, C)``."""
    total = np.zeros((*size, tiles[0].shape[2]), np.float32)
    count = np.zeros((*size, 1), np.float32)
    for tile, start in zip(tiles, starts, strict=True):
        if size[0] > size[1]:
            part = slice(start, start + tile.shape[0]), slice(None)
        else:
            part = slice(None), slice(start, start + tile.shape[1])
        total[part] += tile
        count[part] += 1
    mean: Floats = np.divide(total, np.maximum(count, 1), dtype=np.float32)
    return mean
