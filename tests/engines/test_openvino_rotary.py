"""What OpenVINO makes of rotary positions: a kernel for queries and one for keys, and attention in one piece."""

from __future__ import annotations

import dataclasses
import platform
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgevit.core.quantization import Quantization
from edgevit.core.target import ExportForm
from tests.support.openvino_layers import compile_graph, count_attentions, has_int8_attention, infer, list_layers
from tests.support.quantized import quantize_all
from tests.support.small_graphs import make_graph, make_pixels, run_graph

FORM = ExportForm(fold_last_block=False)
BLOCKS = 2

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="kernels of x86-64")


@pytest.mark.parametrize("qkv", ["separate", "packed"])
@pytest.mark.parametrize("family", ["rotary", "eva", "eva_clip", "perception_encoder"])
def test_float_rotation_is_one_kernel_and_attention_another(family: str, qkv: Any, tmp_path: Path):
    graph = make_graph(family, dataclasses.replace(FORM, qkv=qkv))
    compiled = compile_graph(graph, tmp_path)
    layers = list_layers(compiled)
    counts = Counter(kind for kind, *_ in layers)
    assert counts["RoPE"] == 2 * BLOCKS
    assert count_attentions(layers, "f32") == BLOCKS
    pools = family == "perception_encoder"  # its pool's attention has one query, and a Softmax of its own
    assert (counts["MatMul"], counts["Softmax"]) == ((1, 1) if pools else (0, 0))
    images = make_pixels(family, 3)
    expected = run_graph(graph, images)[0]
    np.testing.assert_allclose(infer(compiled, images)[0], expected, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("family", ["rotary", "eva", "eva_clip", "perception_encoder"])
def test_int8_rotation_stays_float_and_attention_is_int8_in_one_piece(family: str, tmp_path: Path):
    recipe = Quantization(products="both", sqnr_db=-20, observer="minmax", rounding="nearest")
    form = dataclasses.replace(FORM, fold_residual_rotation=True)
    graph = quantize_all(make_graph(family, form), make_pixels(family, 4), recipe, "openvino")
    compiled = compile_graph(graph, tmp_path)
    layers = list_layers(compiled)
    assert Counter(kind for kind, *_ in layers)["RoPE"] == 2 * BLOCKS
    assert count_attentions(layers, "i8") == (BLOCKS if has_int8_attention() else 0)
    images = make_pixels(family, 3, seed=1)
    expected = run_graph(graph, images)[0]
    assert abs(infer(compiled, images)[0] - expected).max() < 0.03 * abs(expected).max()
