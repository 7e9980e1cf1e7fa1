"""Model Optimizer's INT8 of an ONNX file; run by the Python of an environment that has it.

    python benchmarks/modelopt_int8.py SOURCE CALIBRATION OUT METHOD

``nvidia-modelopt`` pins another onnx than edgevit's, so it needs a virtual environment of its own: this file imports
nothing of the repository. Everything but the calibration and the type around the INT8 is Model Optimizer's default.
"""

from __future__ import annotations

import sys
from importlib import metadata

import numpy as np


def main(source: str, calibration: str, out: str, method: str) -> None:
    """Write a Q/DQ model, float32 around the INT8, and print Model Optimizer's version.

    Args:
        source: ONNX file with one input.
        calibration: ``.npy`` file with that input's values, ``(N, 3, H, W) float32``.
        out: Of the quantised ONNX file.
        method: Of the ranges: ``entropy``, Model Optimizer's default, or ``max``.
    """
    from modelopt.onnx.quantization import quantize

    quantize(
        source,
        quantize_mode="int8",
        calibration_data=np.load(calibration),
        calibration_method=method,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=out,
    )
    print(metadata.version("nvidia-modelopt"))


if __name__ == "__main__":
    main(*sys.argv[1:])
