"""Gains of softmax's rows in front of their quantiser: constants per head and query, exact in float.

One grid serves all probabilities of an attention, and is as wide as the largest of any head and any query. Where
attention is spread over many tokens, probabilities are a few hundredths and get a few codes. A constant gain per head
and query position brings every row's largest to about one; the product's result is divided by it again. Both are
multiplications next to fused ops and cost nothing that could be measured.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_LARGEST_GAIN = 64.0


def choose_gain(largest: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``(1, A, N, 1) float32``: one over ``largest (A, N)``, the largest probability seen of each head and query.

    It takes many images: what exceeds the largest seen is clipped, which costs more than a coarser step.
    """
    gain: npt.NDArray[np.float32] = np.clip(1 / np.maximum(largest, 1e-6), 1.0, _LARGEST_GAIN).astype(np.float32)
    return gain[None, :, :, None]
