"""Tiny bundles of whole models: two layers that give depth, classes of pixels, boxes or keypoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgevit.build.pack import pack_bundle
from edgevit.core.answer import Answer
from edgevit.core.engine import TensorSpec
from edgevit.core.target import load_target
from edgevit.engines.compile import compile_engine
from edgevit.pixels.preprocess import Preprocess
from edgevit.runtime.bundle import Bundle
from tests.support.tiny_bundle import make_manifest

HEIGHT, WIDTH, STEP, CHANNELS, QUERIES = 32, 48, 4, 5, 6
NORMALIZATION = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
SQUASH = Preprocess(HEIGHT, WIDTH, "squash", HEIGHT, WIDTH, "bilinear", *NORMALIZATION)
WARP = Preprocess(HEIGHT, WIDTH, "warp", HEIGHT, WIDTH, "bilinear", *NORMALIZATION, antialias=False)
LABELS = tuple(f"thing {i}" for i in range(CHANNELS))
GRID = (CHANNELS, HEIGHT // STEP, WIDTH // STEP)

ANSWERS = {
    "depth": Answer("depth", ("predicted_depth",), metric=True),
    "segment": Answer("class_maps", ("logits",)),
    "detect": Answer("boxes", ("logits", "pred_boxes"), scores="sigmoid", threshold=0.4),
    "pose": Answer("heatmaps", ("heatmaps",), edges=((0, 1), (1, 2), (3, 4))),
}
OUTPUTS: dict[str, dict[str, tuple[int, ...]]] = {
    "depth": {"predicted_depth": (1, *GRID[1:])},
    "segment": {"logits": GRID},
    "detect": {"logits": (QUERIES, CHANNELS), "pred_boxes": (QUERIES, 4)},
    "pose": {"heatmaps": GRID},
}


def write_dense(path: Path, task: str, batch: int = 1) -> Path:
    """``image`` (B, 32, 48, 3) uint8 to the outputs of the task."""
    rng = np.random.default_rng(0)
    channels = 1 if task == "depth" else CHANNELS
    constants: dict[str, np.ndarray] = {
        "scale": np.array(1 / 255, np.float32),
        "kernel": rng.standard_normal((channels, 3, STEP, STEP)).astype(np.float32) / 6,
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["map"], strides=[STEP, STEP]),
    ]
    if task == "detect":
        for name, shape in OUTPUTS["detect"].items():
            rows, columns = shape
            weight = rng.standard_normal((GRID[0] * GRID[1] * GRID[2], rows * columns)).astype(np.float32) / 8
            constants |= {f"{name}.weight": weight, f"{name}.shape": np.array([batch, rows, columns], np.int64)}
            raw = f"{name}.raw" if name == "pred_boxes" else name
            nodes += [
                helper.make_node("Flatten", ["map"], [f"{name}.flat"]),
                helper.make_node("MatMul", [f"{name}.flat", f"{name}.weight"], [f"{name}.product"]),
                helper.make_node("Reshape", [f"{name}.product", f"{name}.shape"], [raw]),
            ]
        nodes.append(helper.make_node("Sigmoid", ["pred_boxes.raw"], ["pred_boxes"]))
    elif task == "pose":
        nodes.append(helper.make_node("Sigmoid", ["map"], ["heatmaps"]))
    else:
        nodes.append(helper.make_node("Identity", ["map"], [next(iter(OUTPUTS[task]))]))
    graph = helper.make_graph(
        nodes,
        task,
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, HEIGHT, WIDTH, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape])
            for name, shape in OUTPUTS[task].items()
        ],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path)
    return path


def make_dense_bundle(out: Path, work: Path, task: str, *, target: str = "cpu", **changes: Any) -> Bundle:
    """Compile the task's model in ``work`` and pack it."""
    work.mkdir(parents=True, exist_ok=True)
    model = write_dense(work / "optimized.onnx", task)
    engine = compile_engine(model, load_target(target), "fp32", work / "engine")
    files: dict[str, Path | bytes] = {name: engine.directory / name for name in engine.files}
    files |= {"recipe.toml": b'name = "float"\n', "report.json": b"{}\n"}
    labels = None if task == "depth" else LABELS
    fields: dict[str, Any] = {
        "task": task,
        "inputs": (TensorSpec("image", (1, HEIGHT, WIDTH, 3), "uint8"),),
        "outputs": tuple(TensorSpec(name, (1, *shape), "float32") for name, shape in OUTPUTS[task].items()),
        "preprocess": WARP if task == "pose" else SQUASH,
        "classes": len(labels or ()),
        "labels": labels,
        "answer": ANSWERS[task],
    }
    manifest = make_manifest(engine=engine, target=load_target(target), **{**fields, **changes})
    return pack_bundle(out, files=files, manifest=manifest)
