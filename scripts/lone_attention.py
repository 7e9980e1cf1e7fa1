"""Lone attentions: an ONNX graph between Linears, as edgevit exports it or otherwise, and what numpy makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Array: TypeAlias = npt.NDArray[Any]
Feed: TypeAlias = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class LoneAttention:
    """``softmax(q·kᵀ + bias)·v`` between Linears.

    Attributes:
        queries: Q.
        keys: N.
        heads: A.
        width: D, of a head.
        batch: Images, or windows.
        bias: Shape of a constant that is added to the scores ``(B, A, Q, N)``; ``None`` for no addition.
        scale: Whether the scores are multiplied by a number in front of the bias.
        codes: Type of the context's codes where queries, keys, values (i8), probabilities and context are quantised.
        projection: A Linear for each of q, k and v; a packed one (Q and N are then equal); or a LayerNorm behind q.
        moved: Whether tokens and heads change places behind the context, as the output projection wants it.
    """

    queries: int
    keys: int
    heads: int = 3
    width: int = 32
    batch: int = 1
    bias: tuple[int, ...] | None = None
    scale: bool = False
    codes: Literal["u8", "i8"] | None = None
    projection: Literal["separate", "packed", "normed"] = "separate"
    moved: bool = True

    def __str__(self) -> str:
        """Like ``65 × 66, 3 × 32, bias 1·1·1·66``."""
        parts = [f"{self.queries} × {self.keys}, {self.heads} × {self.width}"]
        parts += [f"batch {self.batch}"] if self.batch > 1 else []
        parts += ["scaled"] if self.scale else []
        parts += [f"bias {'·'.join(map(str, self.bias))}"] if self.bias is not None else []
        parts += [] if self.projection == "separate" else [self.projection]
        parts += [] if self.moved else ["heads apart"]
        return ", ".join(parts)


def make_attention(case: LoneAttention, seed: int = 0) -> tuple[onnx.ModelProto, Feed, Array]:
    """The graph, its inputs ``x (B, Q, C)`` and ``y (B, N, C)`` of queries and of keys, and its result in float64."""
    writer = _Writer(case, np.random.default_rng(seed))
    expected = writer.write()
    feed = {"x": writer.x, "y": writer.y}
    infos = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, a.shape) for n, a in feed.items()]
    result = helper.make_tensor_value_info("result", onnx.TensorProto.FLOAT, expected.shape)
    graph = helper.make_graph(writer.nodes, "attention", infos, [result], writer.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model), feed, expected


class _Writer:
    """Nodes, and their values in float64 as they are written."""

    def __init__(self, case: LoneAttention, random: np.random.Generator) -> None:
        self.case, self.random = case, random
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.values: dict[str, Array] = {}
        channels = case.heads * case.width
        self.x = random.normal(size=(case.batch, case.queries, channels)).astype(np.float32)
        self.y = random.normal(size=(case.batch, case.keys, channels)).astype(np.float32)
        self.values |= {"x": self.x.astype(np.float64), "y": self.y.astype(np.float64)}

    def write(self) -> Array:
        case = self.case
        q, k, v = self._project()
        k = self._add("Transpose", [k], "keys", self.values[k].swapaxes(2, 3), perm=[0, 1, 3, 2])
        scores = self._add("MatMul", [q, k], "scores", self.values[q] @ self.values[k])
        if case.scale:
            scale = self._constant("scale", np.float32(0.75))
            scores = self._add("Mul", [scores, scale], "scaled", self.values[scores] * 0.75)
        if case.bias is not None:
            bias = self.random.normal(size=case.bias).astype(np.float32) * 2
            constant = self._constant("bias", bias)
            scores = self._add("Add", [scores, constant], "biased", self.values[scores] + bias)
        weights = np.exp(self.values[scores] - self.values[scores].max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        probabilities = self._add("Softmax", [scores], "probabilities", weights, axis=-1)
        if case.codes is not None:
            probabilities = self._quantize(probabilities, "u8", 0)
        context = self._add("MatMul", [probabilities, v], "context", self.values[probabilities] @ self.values[v])
        if case.codes is not None:
            context = self._quantize(context, case.codes, 128 if case.codes == "u8" else 0)
        if case.moved:
            context = self._add("Transpose", [context], "moved", self._swap(context), perm=[0, 2, 1, 3])
        context = self._reshape(context, (case.batch, case.queries, case.heads * case.width))
        self._linear(context, "result", 1.0)
        return self.values["result"]

    def _project(self) -> tuple[str, str, str]:
        case, softer = self.case, self.case.width**-0.25
        if case.projection == "packed":
            packed = self._linear("y", "qkv", softer, 3 * case.heads)
            packed = self._split_heads(packed, 3 * case.heads)
            for name, part in zip("qkv", np.split(self.values[packed], 3, axis=1), strict=True):
                self.values[name] = part
            self.nodes.append(helper.make_node("Split", [packed], list("qkv"), name="split", axis=1, num_outputs=3))
            return "q", "k", "v"
        q, k, v = (self._linear(s, n, f) for s, n, f in (("x", "q", softer), ("y", "k", softer), ("y", "v", 1.0)))
        if case.codes is not None:
            q, k, v = (self._quantize(name, "i8", 0) for name in (q, k, v))
        q, k, v = (self._split_heads(name, case.heads) for name in (q, k, v))
        if case.projection == "normed":
            ones, zeros = (self._constant(n, np.full(case.width, i, np.float32)) for n, i in (("one", 1), ("zero", 0)))
            mean, variance = self.values[q].mean(-1, keepdims=True), self.values[q].var(-1, keepdims=True)
            normed = (self.values[q] - mean) / np.sqrt(variance + 1e-5)
            q = self._add("LayerNormalization", [q, ones, zeros], "q/norm", normed, axis=-1)
        return q, k, v

    def _linear(self, source: str, name: str, factor: float, heads: int | None = None) -> str:
        rows = self.case.heads * self.case.width
        columns = (heads or self.case.heads) * self.case.width
        weight = (self.random.normal(size=(rows, columns)) * factor * rows**-0.5).astype(np.float32)
        constant = self._constant(f"{name}/weight", weight)
        return self._add("MatMul", [source, constant], name, self.values[source] @ weight.astype(np.float64))

    def _split_heads(self, name: str, heads: int) -> str:
        batch, tokens, _ = self.values[name].shape
        name = self._reshape(name, (batch, tokens, heads, self.case.width))
        return self._add("Transpose", [name], f"{name}/heads", self._swap(name), perm=[0, 2, 1, 3])

    def _reshape(self, name: str, shape: tuple[int, ...]) -> str:
        constant = self._constant(f"{name}/shape", np.asarray(shape, np.int64))
        return self._add("Reshape", [name, constant], f"{name}/shaped", self.values[name].reshape(shape))

    def _swap(self, name: str) -> Array:
        return self.values[name].transpose(0, 2, 1, 3)

    def _quantize(self, name: str, codes: str, zero: int) -> str:
        kind, low, high = (np.uint8, 0, 255) if codes == "u8" else (np.int8, -128, 127)
        value = self.values[name]
        scale = np.float32(abs(value).max() / 127 if name != "probabilities" else 1 / 255)
        grid = [self._constant(f"{name}/scale", scale), self._constant(f"{name}/zero", kind(zero))]
        rounded = (np.clip(np.round(value / float(scale)) + zero, low, high) - zero) * float(scale)
        quantized = self._add("QuantizeLinear", [name, *grid], f"{name}/codes", value)
        return self._add("DequantizeLinear", [quantized, *grid], f"{name}/rounded", rounded)

    def _add(self, op: str, inputs: list[str], name: str, value: Array, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        self.values[name] = value
        return name

    def _constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name
