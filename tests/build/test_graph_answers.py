"""What a quantised graph answers in ONNX Runtime, against its own arithmetic in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgevit.build.bench import Bench
from edgevit.build.evidence import Evidence
from edgevit.build.graph_answers import answer_graphs
from edgevit.build.order import Order
from edgevit.build.trial import GraphFile
from edgevit.core.cache import StageCache
from edgevit.core.errors import CompileError
from edgevit.core.recipe import Recipe
from edgevit.core.target import load_target
from edgevit.pixels.preprocess import Preprocess
from tests.support.tiny_onnx import SIZE, compute_logits, make_images, write_classifier

PREPROCESS = Preprocess(SIZE, SIZE, "none", SIZE, SIZE, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
TARGET = load_target("intel-cpu")


@pytest.mark.parametrize("batch", [(1, 1, 1), (3, 3, 3)])
def test_every_image_is_answered_by_the_quantised_graphs_alone(tmp_path: Path, batch: tuple[int, int, int]) -> None:
    graph = GraphFile(write_classifier(tmp_path / "tiny.onnx", batch="batch"), {"weights": 0})
    pixels = make_images(4)
    evidence = Evidence(PREPROCESS, pixels, (np.zeros((4, 10), np.float32),))
    recipe = Recipe(batch=batch)
    found = answer_graphs(
        {"fp32": graph, "int8": graph}, Order(TARGET, recipe), Bench(evidence, StageCache(tmp_path / "cache"))
    )
    assert set(found) == {"int8"}
    np.testing.assert_allclose(found["int8"][0], compute_logits(pixels), rtol=1e-4, atol=1e-5)


def test_a_graph_that_onnx_runtime_refuses_is_an_error_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(write_classifier(tmp_path / "tiny.onnx").read_bytes().replace(b"LayerNorm", b"LaxerNorm"))
    evidence = Evidence(PREPROCESS, make_images(1), (np.zeros((1, 10), np.float32),))
    with pytest.raises(CompileError, match="int8 graph"):
        answer_graphs({"int8": GraphFile(path, {})}, Order(TARGET), Bench(evidence, StageCache(tmp_path / "cache")))
