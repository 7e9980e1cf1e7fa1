"""Depth from a map, as transformers' ``post_process_depth_estimation`` reads it."""

from __future__ import annotations

import numpy as np

from edgevit.runtime.tasks.answers import Depth
from edgevit.runtime.tasks.sample import Floats, Grid, sample_strips


def read_depth(values: Floats, grid: Grid, *, metric: bool) -> Depth:
    """The depth of every pixel of an image: bicubic, so that it may overshoot at edges, as the origin's does.

    Args:
        values: ``(h, w)`` or ``(1, h, w)``.
        grid: Where the image lies in it.
        metric: Whether it is in metres.

    Returns:
        With NaN where the model did not see the image.
    """
    maps = values.reshape(values.shape[-2:])[..., None]
    depth = np.empty(grid.shape, np.float32)
    for rows, strip in sample_strips(maps, grid, "bicubic"):
        depth[rows] = strip[..., 0]
    depth[~grid.seen[0]] = np.nan
    depth[:, ~grid.seen[1]] = np.nan
    return Depth(depth, metric)
