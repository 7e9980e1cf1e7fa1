"""The peers' quantisers, each as its own documentation says, on the same calibration images as ours."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.peers import Pixels, Values, quiet
from edgevit.pixels.preprocess import Preprocess

SMOOTHING = (("α 0.5", 0.5), ("SmoothQuant off", -1.0))
"""NNCF's α beside its default of 0.95."""

MODELOPT_METHODS = ("entropy", "max")
"""Model Optimizer's default, and its other one."""


class PeerError(Exception):
    """A peer in another environment failed; what it said."""


def normalize(pixels: Pixels, preprocess: Preprocess) -> Values:
    """``(B, H, W, 3) uint8`` to ``(B, 3, H, W) float32``, as timm's models take them."""
    return np.ascontiguousarray(preprocess.normalize(pixels).transpose(0, 3, 1, 2), np.float32)


def quantize_nncf(
    source: Path,
    out: Path,
    pixels: Sequence[Pixels],
    preprocess: Preprocess,
    alpha: float | None = None,
    *,
    plain: bool = False,
) -> Path:
    """NNCF's post-training quantisation for transformers: mixed preset, fast bias correction.

    Args:
        source: ONNX, timm's export.
        out: Of the OpenVINO model, ``.xml``.
        pixels: ``(1, H, W, 3) uint8`` each, all of which are used.
        preprocess: The model's.
        alpha: SmoothQuant's, below 0 for off; ``None`` for NNCF's default.
        plain: What NNCF does when it is not told that the model is a transformer, with its default preset.
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
            preset=None if plain else nncf.QuantizationPreset.MIXED,
            model_type=None if plain else nncf.ModelType.TRANSFORMER,
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


def find_modelopt(python: str | None) -> str | None:
    """The Python that runs NVIDIA's Model Optimizer: the one given, or this one if it is installed; else ``None``."""
    return python or (sys.executable if importlib.util.find_spec("modelopt") is not None else None)


def quantize_modelopt(
    python: str, source: Path, out: Path, pixels: Sequence[Pixels], preprocess: Preprocess, method: str
) -> str:
    """Model Optimizer's INT8 of an ONNX file, in an environment that has it; returns its version.

    Args:
        python: Of that environment.
        source: timm's export.
        out: Of the Q/DQ model.
        pixels: ``(1, H, W, 3) uint8`` each, all of which are used.
        preprocess: The model's.
        method: One of ``MODELOPT_METHODS``.

    Raises:
        PeerError: With the last line that it said.
    """
    data = out.with_suffix(".npy")
    np.save(data, np.concatenate([normalize(batch, preprocess) for batch in pixels]))
    script = Path(__file__).with_name("modelopt_int8.py")
    command = [python, str(script), str(source), str(data), str(out), method]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as exc:
        raise PeerError(f"{python}: {exc.strerror}") from exc
    finally:
        data.unlink()
    if done.returncode or not out.is_file():
        last = (done.stderr.strip() or done.stdout.strip() or "nothing said").splitlines()[-1]
        raise PeerError(f"exit {done.returncode}: {last}")
    return done.stdout.splitlines()[-1]


def _input_name(source: Path) -> str:
    import onnx

    model = onnx.load(str(source), load_external_data=False)
    weights = {initializer.name for initializer in model.graph.initializer}
    return str(next(value.name for value in model.graph.input if value.name not in weights))
