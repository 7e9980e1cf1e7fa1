"""Distance to the machine: the time of a model's multiplications alone at the best int8 rate of the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import Pixels, Values, compile_openvino
from edgevit.core import schema
from edgevit.graph.graph import Graph
from edgevit.measure.latency import measure_latency
from edgevit.runtime.session import Session

SHAPES = ((1024, 1024, 1024), (2048, 768, 768), (197, 768, 3072), (197, 3072, 768), (197, 192, 768), (3136, 384, 96))
"""M × K × N: square ones, and the Linears of ViT-B, DeiT-T and Swin-T."""


class GemmSession:
    """One u8 × i8 product in OpenVINO, requantised to u8; a stand-in for ``Session``."""

    streams = 1

    def __init__(self, shape: tuple[int, int, int], threads: int) -> None:
        rows, depth, _ = shape
        self._infer = compile_openvino(_make_gemm(shape), threads)
        self._codes = np.random.default_rng(0).integers(0, 256, (rows, depth), np.uint8)
        self.settings = {"hint": "latency", "threads": threads}

    def run(self, batch: Pixels) -> Values:
        """The product; ``batch`` is not used."""
        return self._infer(self._codes)

    def run_outputs(self, batch: Pixels) -> tuple[Values]:
        """As a session's, of an engine with one output."""
        return (self.run(batch),)


def measure_distance(model_path: Path, ours: Session, batch: Pixels, seconds: float, rounds: int) -> dict[str, Any]:
    """Time our engine in turns with products of favourable shapes.

    Args:
        model_path: The ONNX file of our engine, whose Linears, convolution and attention products are counted.
        ours: Its session.
        batch: What it takes.
        seconds: Timed seconds an engine.
        rounds: Turns.
    """
    threads = int(ours.settings["threads"])
    macs = {f"{m}×{k}×{n}": m * k * n for m, k, n in SHAPES}
    sessions: dict[str, Any] = {"ours": ours}
    sessions |= {name: GemmSession(shape, threads) for name, shape in zip(macs, SHAPES, strict=True)}
    found = measure_latency(sessions, batch, runs=40, seconds=seconds, rounds=rounds, warmup_seconds=0.2)
    rates = {name: count / found.latencies[name].p50_ms / 1e6 for name, count in macs.items()}
    best = max(rates, key=rates.__getitem__)
    total = sum(site.macs for site in Graph.load(model_path).sites())
    ratio, scale = found.ratio("ours", best), macs[best] / total
    return {
        "gmacs": total / 1e9,
        "gmacs_per_second": rates,
        "best_shape": best,
        "best_gmacs_per_second": rates[best],
        "ideal_ms": total / rates[best] / 1e6,
        "ratio": {
            **schema.to_data(ratio),
            **{key: getattr(ratio, key) * scale for key in ("value", "low", "high")},
        },
    }


def _make_gemm(shape: tuple[int, int, int]) -> Any:
    """An OpenVINO model whose one product runs on codes: what stands around it is folded into the kernel."""
    import openvino
    from onnx import TensorProto, helper, numpy_helper

    rows, depth, columns = shape
    weight = np.random.default_rng(1).integers(-127, 128, (depth, columns), np.int8)
    constants = {
        "weight": weight,
        "scale": np.asarray(0.02, np.float32),
        "weight_scale": np.full(columns, 0.01, np.float32),
        "zero": np.asarray(0, np.uint8),
        "weight_zero": np.zeros(columns, np.int8),
        "out_scale": np.asarray(0.02 * 0.01 * 80 * np.sqrt(depth), np.float32),
        "out_zero": np.asarray(128, np.uint8),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["a"]),
        helper.make_node("DequantizeLinear", ["weight", "weight_scale", "weight_zero"], ["b"], axis=1),
        helper.make_node("MatMul", ["a", "b"], ["product"]),
        helper.make_node("QuantizeLinear", ["product", "out_scale", "out_zero"], ["result"]),
    ]
    graph = helper.make_graph(
        nodes,
        "gemm",
        [helper.make_tensor_value_info("codes", TensorProto.UINT8, (rows, depth))],
        [helper.make_tensor_value_info("result", TensorProto.UINT8, (rows, columns))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return openvino.Core().read_model(model.SerializeToString())
