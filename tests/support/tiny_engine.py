"""The tiny classifier, compiled by a real engine library in a second."""

from __future__ import annotations

from pathlib import Path

from edgevit.core.engine import Engine
from edgevit.core.target import load_target
from edgevit.engines.compile import compile_engine
from tests.support.tiny_onnx import write_classifier

TARGETS = {"openvino": "intel-cpu", "onnxruntime": "cpu"}


def compile_tiny_engine(directory: Path, backend: str) -> Engine:
    """Compile the classifier into ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    model = write_classifier(directory / "source.onnx")
    return compile_engine(model, load_target(TARGETS[backend]), "fp32", directory)
