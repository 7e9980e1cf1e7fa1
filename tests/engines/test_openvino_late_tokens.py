"""What OpenVINO makes of EoMT, whose queries join the tokens between its blocks: attention in one piece in all."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.checkpoints import read_checkpoint
from edgevit.core.quantization import Quantization
from edgevit.core.target import ExportForm
from edgevit.graph.graph import Graph
from edgevit.graph.passes.optimize import optimize_graph
from edgevit.models.export import export_model
from tests.support.openvino_layers import compile_graph, count_attentions, has_int8_attention, infer, list_layers
from tests.support.quantized import quantize_all
from tests.support.small_graphs import run_graph
from tests.support.whole_transformers import ENCODER, export_whole

BLOCKS = ENCODER["num_hidden_layers"]

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="kernels of x86-64")


def make_images(count: int, seed: int) -> list[Any]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 1, 64, 64, 3), np.uint8))


def make_graph(form: ExportForm) -> Graph:
    return optimize_graph(export_model(read_checkpoint(export_whole("eomt", "dynamo")), form)[0])[0]


def compare(graph: Graph, compiled: Any) -> float:
    """The largest error of any output, over its largest value."""
    images = make_images(2, seed=1)
    outputs = [value.name or "" for value in graph.model.graph.outputs]
    rows = zip(infer(compiled, images), run_graph(graph, images, outputs), strict=True)
    return max(float(abs(found - wanted).max() / abs(wanted).max()) for found, wanted in rows)


@pytest.mark.parametrize("qkv", ["separate", "packed"])
def test_float_attention_is_one_kernel_in_front_of_the_joint_and_behind_it(qkv: Any, tmp_path: Path) -> None:
    graph = make_graph(ExportForm(qkv=qkv))
    compiled = compile_graph(graph, tmp_path)
    assert count_attentions(list_layers(compiled), "f32") == BLOCKS
    assert compare(graph, compiled) <= 1e-4


def test_int8_attention_is_one_kernel_in_front_of_the_joint_and_behind_it(tmp_path: Path) -> None:
    recipe = Quantization(products="both", sqnr_db=-20, observer="minmax", rounding="nearest")
    graph = quantize_all(
        make_graph(ExportForm(fold_residual_rotation=True)), make_images(4, seed=0), recipe, "openvino"
    )
    compiled = compile_graph(graph, tmp_path)
    assert count_attentions(list_layers(compiled), "i8") == (BLOCKS if has_int8_attention() else 0)
    assert compare(graph, compiled) <= 0.05
