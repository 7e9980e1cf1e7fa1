"""The peers: timm's own exports of the same weights, opened with the settings of our engine."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgevit.pixels.preprocess import Preprocess

EXPORTERS = ("torchscript", "dynamo")

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]


class PeerSession:
    """Another engine of the same weights; a stand-in for ``Session``.

    Args:
        infer: ``(B, 3, H, W) float32``, normalised, to logits ``(B, K) float32``.
        preprocess: The model's.
        batch: ``(B, H, W, 3) uint8``, which is timed.
        threads: Of ``infer``.
    """

    streams = 1

    def __init__(self, infer: Callable[[Values], Values], preprocess: Preprocess, batch: Pixels, threads: int) -> None:
        self._infer, self._preprocess = infer, preprocess
        self._pixels = self._prepare(batch)
        self.settings = {"hint": "latency", "threads": threads}

    def _prepare(self, batch: Pixels) -> Values:
        return np.ascontiguousarray(self._preprocess.normalize(batch).transpose(0, 3, 1, 2), np.float32)

    def run(self, batch: Pixels) -> Values:
        """Logits of the prepared pixels; ``batch`` is what ours takes at the same moment."""
        return self._infer(self._pixels)

    def run_outputs(self, batch: Pixels) -> tuple[Values]:
        """As a session's, of an engine with one output."""
        return (self.run(batch),)

    def answer(self, batch: Pixels) -> Values:
        """Logits of ``batch``."""
        return self._infer(self._prepare(batch))


def compile_openvino(model: Any, threads: int, floats: str | None = "f32") -> Callable[[npt.NDArray[Any]], Values]:
    """An inference call of an OpenVINO model or model file, as our engine is opened, with the latency hint.

    Args:
        model: What ``compile_model`` takes.
        threads: Of one call.
        floats: Type of the float arithmetic; ``None`` leaves it to OpenVINO, as who sets nothing does.
    """
    import openvino

    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if floats is not None:
        config["INFERENCE_PRECISION_HINT"] = floats
    model = str(model) if isinstance(model, Path) else model
    request = openvino.Core().compile_model(model, "CPU", config).create_infer_request()

    def infer(pixels: npt.NDArray[Any]) -> Values:
        logits: Values = request.infer({0: pixels}, share_inputs=True)[0]
        return logits

    return infer


def compile_onnxruntime(path: Path, threads: int) -> Callable[[npt.NDArray[Any]], Values]:
    """An inference call of an ONNX file in ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def infer(pixels: npt.NDArray[Any]) -> Values:
        logits: Values = session.run(None, {name: pixels})[0]
        return logits

    return infer


def export_timm(module: Any, size: tuple[int, int], exporter: str, path: Path) -> Path:
    """timm's ``onnx_export``, batch 1.

    Args:
        module: timm's.
        size: Height and width.
        exporter: One of ``EXPORTERS``.
        path: Of the ONNX file.
    """
    from timm.utils.onnx import onnx_export

    with quiet():
        onnx_export(
            module,
            str(path),
            opset=18,
            input_size=(3, *size),
            batch_size=1,
            check=False,
            check_forward=False,
            use_dynamo=exporter == "dynamo",
        )
    return path


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings, progress bars or chatter of a peer."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
