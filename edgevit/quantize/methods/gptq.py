"""GPTQ: round a Linear's weights one input channel at a time, and let the channels not yet rounded make up for it.

Frantar et al., 2022, arXiv:2210.17323. The Hessian is that of the quantised inputs, so the rounding also answers to the
error that these carry.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgevit.quantize.methods.weight_pairs import Codes, bound_code, limit_pairs

LARGEST_CODE = 127
_BLOCK = 128
DAMPING = 0.01  # of the Hessian's mean diagonal, as in the paper


def round_gptq(
    weight: npt.NDArray[np.float32],
    scale: npt.NDArray[np.float32],
    hessian: npt.NDArray[np.float64],
    *,
    damping: float = DAMPING,
    largest_code: int = LARGEST_CODE,
    paired: bool = False,
) -> npt.NDArray[np.int8]:
    """Codes that lose least in the Linear's output.

    Args:
        weight: ``(K, N) float32``.
        scale: ``(N,) float32`` per output channel, or ``(K, N)``.
        hessian: ``(K, K) float64``: the mean of xᵀx over inputs; dead channels may be zero.
        damping: Added to the diagonal, as a share of its mean.
        largest_code: Of the grid, which is symmetric.
        paired: Whether neighbouring input channels share a limit (:mod:`edgevit.quantize.methods.weight_pairs`).

    Returns:
        ``(K, N) int8`` in ``−largest_code … largest_code``.
    """
    unit = scale if scale.ndim == 1 else scale.max(axis=0)
    work = weight.astype(np.float64) / unit
    steps = np.broadcast_to(scale.astype(np.float64) / unit, work.shape)  # of each row, in units of its column
    mean = float(np.mean(np.diagonal(hessian)))
    if mean == 0:
        rounded = np.clip(np.rint(work / steps), -largest_code, largest_code)
        nearest: npt.NDArray[np.int8] = (limit_pairs(rounded) if paired else rounded).astype(np.int8)
        return nearest
    # The channels with the largest inputs are rounded first: later ones can still make up for them.
    order = np.argsort(-np.diagonal(hessian), kind="stable")
    work, steps, hessian = work[order], steps[order], hessian[np.ix_(order, order)]
    hessian[np.diag_indices_from(hessian)] += damping * mean
    feedback = _decompose(hessian)
    del hessian
    codes, errors = np.empty_like(work), np.empty_like(work)
    place = np.empty(len(order) + len(order) % 2, np.intp)  # of each channel in the order; one too many is never done
    place[-1] = len(order)
    place[order] = np.arange(len(order))
    for start in range(0, len(work), _BLOCK):
        end = min(start + _BLOCK, len(work))
        wanted = work[start:end] + feedback[:start, start:end].T @ errors[:start]
        for row in range(start, end):
            target = wanted[row - start] + feedback[start:row, row] @ errors[start:row]
            low: Codes | float = -largest_code
            high: Codes | float = largest_code
            if paired and (other := place[order[row] ^ 1]) < len(order):
                done = other < row
                low, high = bound_code(codes[other] if done else work[other] / steps[other], done=done)
            codes[row] = np.clip(np.rint(target / steps[row]), low, high)
            errors[row] = work[row] - codes[row] * steps[row]
    result = np.empty(codes.shape, np.int8)
    result[order] = codes.astype(np.int8)
    return result


def _decompose(hessian: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The unit upper ``U`` of ``hessian = U·D·Uᵀ``: what a channel takes over of the errors of those before it.

    Chee et al., 2023 (QuIP, arXiv:2307.13304), section 4: the same rounding as the paper's, which inverts the Hessian.
    """
    upper = np.asarray(np.linalg.cholesky(hessian[::-1, ::-1])[::-1, ::-1], np.float64)
    upper /= np.diag(upper).copy()
    return upper
