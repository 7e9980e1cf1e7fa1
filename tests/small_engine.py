"""A linear classifier of 8 × 8 pixels, compiled by a real engine library in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgevit.compile import compile_engine
from edgevit.engine import Engine
from edgevit.target import Target

SIZE, CLASSES = 8, 5


def make_weights(seed: int = 0) -> np.ndarray:
    """``(192, 5) float32``."""
    return np.random.default_rng(seed).normal(size=(SIZE * SIZE * 3, CLASSES)).astype(np.float32) / 255


def run_small_model(pixels: np.ndarray) -> np.ndarray:
    """The engine's function in numpy: ``(B, 8, 8, 3) uint8`` to ``(B, 5) float32``."""
    return pixels.reshape(len(pixels), -1).astype(np.float32) @ make_weights()


def compile_small_engine(directory: Path, backend: str) -> Engine:
    """Compile the classifier into ``directory``."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["pixels", "shape"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])],
        [
            numpy_helper.from_array(np.asarray([1, -1], np.int64), "shape"),
            numpy_helper.from_array(make_weights(), "weights"),
        ],
    )
    directory.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    source = directory / "source.onnx"
    onnx.save(model, source)
    target = Target("here", "This machine", backend, "CPU", "host", ("fp32",))  # type: ignore[arg-type]
    return compile_engine(source, target, "fp32", directory)
