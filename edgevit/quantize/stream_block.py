"""reuse_block: where activations of all images lie while a graph is walked segment by segment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float32]


def reuse_block(stream: Sequence[npt.NDArray[np.generic]], shape: tuple[int, ...]) -> Values:
    """One array for what leaves a segment: that of what enters it, where it has the same shape.

    An array an image would be as much, but scattered among what is freed between them.
    """
    block = stream[0].base
    wanted = (len(stream), *shape)
    if isinstance(block, np.ndarray) and block.shape == wanted and block.dtype == np.float32:
        return block
    return np.empty(wanted, np.float32)
