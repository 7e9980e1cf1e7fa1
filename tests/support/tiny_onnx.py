"""A tiny classifier in ONNX, written node by node, and the same computed with only numpy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE, PATCH, WIDTH, CLASSES = 16, 4, 32, 10


def make_weights(seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Weights of the classifier; the patch embedding takes pixels from 0 to 255."""
    rng = np.random.default_rng(seed)
    shapes = {
        "patch": (WIDTH, 3, PATCH, PATCH),
        "scale": (WIDTH,),
        "shift": (WIDTH,),
        "fc1": (WIDTH, 2 * WIDTH),
        "fc2": (2 * WIDTH, CLASSES),
        "bias": (CLASSES,),
    }
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    weights["patch"] /= np.float32(255)
    return weights


def write_classifier(path: Path, *, batch: int | str = 1, seed: int = 0, grid: bool = False, opset: int = 20) -> Path:
    """``image`` (B, 16, 16, 3) uint8 to ``logits`` (B, 10) float32; with ``grid`` also (B, 32, 4, 4).

    Args:
        path: Where to write.
        batch: B, or a name for any.
        seed: Of the weights.
        grid: Give the patches' embeddings too.
        opset: 20, or 17 as for TensorRT 8.6, which has no Gelu and takes axes as an attribute.
    """
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT, name="cast"),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2], name="to_nchw"),
        helper.make_node("Conv", ["planes", "patch"], ["grid"], strides=[PATCH, PATCH], name="patch_embed"),
        helper.make_node("Reshape", ["grid", "flat"], ["channels"], name="flatten"),
        helper.make_node("Transpose", ["channels"], ["tokens"], perm=[0, 2, 1], name="to_tokens"),
        helper.make_node("LayerNormalization", ["tokens", "scale", "shift"], ["normed"], epsilon=1e-6, name="norm"),
        helper.make_node("MatMul", ["normed", "fc1"], ["hidden"], name="fc1_product"),
        *_make_gelu(opset),
        helper.make_node("MatMul", ["active", "fc2"], ["scores"], name="fc2_product"),
        helper.make_node("ReduceMean", ["scores", "axes"], ["mean"], keepdims=0, name="pool")
        if opset >= 18
        else helper.make_node("ReduceMean", ["scores"], ["mean"], axes=[1], keepdims=0, name="pool"),
        helper.make_node("Add", ["mean", "bias"], ["logits"], name="head"),
    ]
    constants: dict[str, npt.NDArray[Any]] = {**make_weights(seed), "flat": np.array([0, WIDTH, -1], np.int64)}
    if opset >= 18:
        constants["axes"] = np.array([1], np.int64)
    if opset < 20:
        constants |= {
            name: np.array(value, np.float32) for name, value in (("root", math.sqrt(0.5)), ("one", 1), ("half", 0.5))
        }
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, CLASSES])]
    if grid:
        side = SIZE // PATCH
        outputs.insert(0, helper.make_tensor_value_info("grid", TensorProto.FLOAT, [batch, WIDTH, side, side]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, SIZE, SIZE, 3])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _make_gelu(opset: int) -> list[onnx.NodeProto]:
    if opset >= 20:
        return [helper.make_node("Gelu", ["hidden"], ["active"], name="gelu")]
    return [
        helper.make_node("Mul", ["hidden", "root"], ["scaled"], name="gelu/scale"),
        helper.make_node("Erf", ["scaled"], ["erf"], name="gelu/erf"),
        helper.make_node("Add", ["erf", "one"], ["shifted"], name="gelu/shift"),
        helper.make_node("Mul", ["hidden", "shifted"], ["doubled"], name="gelu/product"),
        helper.make_node("Mul", ["doubled", "half"], ["active"], name="gelu/half"),
    ]


def compute_logits(
    images: npt.NDArray[np.uint8], weights: dict[str, npt.NDArray[np.float32]] | None = None
) -> npt.NDArray[np.float64]:
    """The classifier in float64."""
    w = {name: value.astype(np.float64) for name, value in (weights or make_weights()).items()}
    side = SIZE // PATCH
    blocks = images.astype(np.float64).reshape(len(images), side, PATCH, side, PATCH, 3)
    tokens = np.einsum("bipjqc,dcpq->bijd", blocks, w["patch"]).reshape(len(images), side * side, WIDTH)
    centred = tokens - tokens.mean(-1, keepdims=True)
    normed = centred / np.sqrt(centred.var(-1, keepdims=True) + 1e-6) * w["scale"] + w["shift"]
    hidden = normed @ w["fc1"]
    active = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    return np.asarray((active @ w["fc2"]).mean(1) + w["bias"])


def compute_grid(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """The patch embedding alone, ``(B, 32, 4, 4)``."""
    side = SIZE // PATCH
    blocks = images.astype(np.float64).reshape(len(images), side, PATCH, side, PATCH, 3)
    return np.asarray(np.einsum("bipjqc,dcpq->bdij", blocks, make_weights()["patch"].astype(np.float64)))


def make_images(count: int, seed: int = 1) -> npt.NDArray[np.uint8]:
    """``(count, 16, 16, 3) uint8``."""
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
