"""Bias correction: keep the mean of a Linear's output, on the inputs that the quantised model really has.

Each Linear answers only for its own rounding: a bias that also made up for sites before it would be wrong as soon as
one of those is set back to float.

Nagel et al., 2019, arXiv:1906.04721, section 4.2, with the means measured instead of derived.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def correct_bias(
    bias: npt.NDArray[np.float32],
    weight: npt.NDArray[np.float32],
    quantized_weight: npt.NDArray[np.float32],
    mean: npt.NDArray[np.float64],
    quantized_mean: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    """``b + E x · W − E x̂ · Ŵ``.

    Args:
        bias: ``(N,) float32``.
        weight: ``(K, N) float32``, of the float model.
        quantized_weight: ``(K, N) float32``, as the engine has it.
        mean: E x, ``(K,)``, of the inputs before they are quantised.
        quantized_mean: E x̂, ``(K,)``, of the quantised inputs.
    """
    wanted = mean @ weight.astype(np.float64)
    got = quantized_mean @ quantized_weight.astype(np.float64)
    result: npt.NDArray[np.float32] = (bias + wanted - got).astype(np.float32)
    return result
