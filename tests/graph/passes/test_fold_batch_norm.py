"""BatchNormalization goes into the convolution in front of it, exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgevit.graph.graph import Graph
from edgevit.graph.passes.fold_batch_norm import fold_batch_norm
from tests.support.foreign_exports import silence
from tests.support.small_graphs import run_graph

CASES = {
    "conv": lambda: nn.Conv2d(6, 8, 3, padding=1),
    "no_bias": lambda: nn.Conv2d(6, 8, 3, bias=False),
    "grouped": lambda: nn.Conv2d(6, 8, 3, groups=2),
    "transposed": lambda: nn.ConvTranspose2d(6, 8, 4, 2, 1),
}


def make(conv: nn.Module, folder: Path) -> tuple[nn.Module, Graph]:
    generator = torch.Generator().manual_seed(0)
    norm = nn.BatchNorm2d(8, eps=1e-3)
    for value in (norm.weight, norm.bias, norm.running_mean):
        value.data.normal_(generator=generator)
    norm.running_var.uniform_(0.1, 3, generator=generator)
    module = nn.Sequential(conv, norm, nn.ReLU()).eval()
    path = folder / "m.onnx"
    with silence():
        # Else the exporter folds it itself.
        torch.onnx.export(
            module, (torch.zeros(1, 6, 9, 7),), path, dynamo=False, opset_version=17,
            input_names=["image"], output_names=["y"],
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        )  # fmt: skip
    return module, Graph.load(path)


@pytest.mark.parametrize("name", CASES)
def test_fold_is_exact(name: str, tmp_path: Path) -> None:
    module, graph = make(CASES[name](), tmp_path)
    assert "BatchNormalization" in graph.op_counts()
    record = fold_batch_norm(graph)
    assert len(record.applied) == 1
    assert "BatchNormalization" not in graph.op_counts()
    x = torch.randn(1, 6, 9, 7, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = module(x).numpy()
    assert np.abs(run_graph(graph, [x.numpy()], ["y"])[0] - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_norm_behind_something_else_is_left_with_a_reason(tmp_path: Path) -> None:
    _, graph = make(nn.Sequential(nn.Conv2d(6, 8, 1), nn.ReLU()), tmp_path)
    record = fold_batch_norm(graph)
    assert [skip.reason for skip in record.skipped] == ["no convolution is in front of it"]
    assert "BatchNormalization" in graph.op_counts()
