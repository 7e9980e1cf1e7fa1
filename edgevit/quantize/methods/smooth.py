"""SmoothQuant between an activation function and the Linear behind it (Xiao et al., 2023, arXiv:2211.10438).

Channel k of the input is divided by ``max|x_k|^α / max|w_k|^(1−α)`` and the weight's row multiplied by it. There is no
norm in front whose weights could take up the factor; it stays as a multiplication, which engines fold into Q.
α is chosen per site from a grid that contains "off". For symmetric engines a centre is taken out as well, which gives
the one-sided output of GELU the sign bit back; the Linear's bias makes up for it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from edgevit.quantize.plan import Affine

ALPHAS = (0.35, 0.55)  # a finer grid won no decibel on DeiT-Tiny, and each α takes time to try


def list_factors(inputs: npt.NDArray[np.float32], weight: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    """Candidate factors ``(K,)`` on a sample of inputs ``(T, K)`` of a weight ``(K, N)``, all ones (off) first."""
    yield np.ones(inputs.shape[1], np.float32)
    reach = np.maximum(np.abs(inputs).max(axis=0), 1e-5)
    rows = np.maximum(np.abs(weight).max(axis=1), 1e-5)
    for alpha in ALPHAS:
        divisor = reach**alpha / rows ** (1 - alpha)
        # Factors are relative, and a channel that is nearly silent must not be blown up.
        divisor = np.clip(divisor / np.median(divisor), 0.05, 20)
        yield (1 / divisor).astype(np.float32)


def make_affine(inputs: npt.NDArray[np.float32], factor: npt.NDArray[np.float32], center: float) -> Affine:
    """``(x − center / factor) · factor = x · factor − center``: the centre is the scaled input's."""
    return Affine((center / factor).astype(np.float32), factor)
