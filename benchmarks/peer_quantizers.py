"""The peers' quantisers, each as its own documentation says, on the same calibration images as ours."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import Pixels, Values, quiet
from edgevit.preprocess import Preprocess

SMOOTHING = (("α 0.5", 0.5), ("SmoothQuant off", -1.0))
"""NNCF's α beside its default of 0.95."""


def normalize(pixels: Pixels, preprocess: Preprocess) -> Values:
    """``(B, H, W, 3) uint8`` to ``(B, 3, H, W) float32``, as timm's models take them."""
    return np.ascontiguousarray(preprocess.normalize(pixels).transpose(0, 3, 1, 2), np.float32)


def quantize_nncf(
    source: Path, out: Path, pixels: Sequence[Pixels], preprocess: Preprocess, alpha: float | None = None
) -> Path:
    """NNCF's post-training quantisation for transformers: mixed preset, fast bias correction.

    Args:
        source: ONNX, timm's export.
        out: Of the OpenVINO model, ``.xml``.
        pixels: ``(1, H, W, 3) uint8`` each, all of which are used.
        preprocess: The model's.
        alpha: SmoothQuant's, below 0 for off; ``None`` for NNCF's default.
    """
    os.environ.setdefault("CI", "true")  # openvino-telemetry sends nothing then
    import nncf
    import openvino
    from nncf.quantization.advanced_parameters import AdvancedSmoothQuantParameters

    nncf.set_log_level(logging.ERROR)
    parameters = nncf.AdvancedQuantizationParameters()
    if alpha is not None:
        parameters.smooth_quant_alphas = AdvancedSmoothQuantParameters(convolution=-1, matmul=alpha)
    with quiet():
        model = nncf.quantize(
            openvino.Core().read_model(str(source)),
            nncf.Dataset(list(pixels), lambda batch: normalize(batch, preprocess)),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(pixels),
            advanced_parameters=parameters,
        )
        openvino.save_model(model, str(out), compress_to_fp16=False)
    return out


def quantize_onnxruntime(source: Path, out: Path, pixels: Sequence[Pixels], preprocess: Preprocess) -> Path:
    """ONNX Runtime's static Q/DQ: per channel, min/max, signed activations, as its documentation advises for x86-64."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = _input_name(source)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rest = iter(pixels)

        def get_next(self) -> dict[str, Values] | None:
            batch = next(self._rest, None)
            return None if batch is None else {name: normalize(batch, preprocess)}

    prepared = out.with_suffix(".prepared.onnx")
    with quiet():
        level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)
        try:
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)  # all shapes are static
            quantize_static(str(prepared), str(out), Reader(), quant_format=QuantFormat.QDQ, per_channel=True)
        finally:
            logging.getLogger().setLevel(level)
    prepared.unlink()
    return out


def has_modelopt() -> bool:
    """Whether NVIDIA's Model Optimizer is installed."""
    return importlib.util.find_spec("modelopt") is not None


def quantize_modelopt(source: Path, out: Path, pixels: Sequence[Pixels], preprocess: Preprocess) -> Path:
    """Model Optimizer's INT8 of an ONNX file, with its default calibration."""
    from modelopt.onnx.quantization import quantize

    data: Any = {_input_name(source): np.concatenate([normalize(batch, preprocess) for batch in pixels])}
    with quiet():
        quantize(
            str(source),
            quantize_mode="int8",
            calibration_data=data,
            calibration_eps=["cpu"],
            output_path=str(out),
        )
    return out


def _input_name(source: Path) -> str:
    import onnx

    model = onnx.load(str(source), load_external_data=False)
    weights = {initializer.name for initializer in model.graph.initializer}
    return str(next(value.name for value in model.graph.input if value.name not in weights))
